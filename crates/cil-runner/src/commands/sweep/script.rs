//! `sweep script`: the text that hands a sweep to a scheduler.
//!
//! Invariant: a script contains only the number of jobs and which of them train base models; everything else is
//! [`super::task`]'s. So it stays right when the sweep's file changes in anything but its number of jobs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::Meant;
use super::job::{Kind, numbered};
use crate::cli::args::Global;
use crate::cli::args::sweep::{Resources, Scheduler};
use crate::cli::failure::bad_input;
use crate::cli::output::Output;

/// The values in a script.
struct Blanks {
    program: String,
    file: String,
    /// Arguments of every task: folder of runs, of data, device, kernels.
    common: String,
    name: String,
    bases: usize,
    jobs: usize,
}

/// Prints the script.
///
/// # Errors
/// If a path is not text, or the sweep's file cannot be found again.
pub fn script(
    meant: &Meant,
    file: &Path,
    scheduler: Scheduler,
    resources: &Resources,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<()> {
    let jobs = numbered(meant);
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        Ok::<_, anyhow::Error>(quoted(text))
    };
    let (out, data) = (absolute(&global.out)?, absolute(&global.data_dir)?);
    let common = format!(
        "--out {out} --data-dir {data} --device {} --kernels {} --threads {}{}",
        global.device,
        meant.kernels,
        resources.cpus,
        if global.no_cuda_graphs { " --no-cuda-graphs" } else { "" }
    );
    let stem = super::file::stem(file)?;
    let blanks = Blanks {
        program: absolute(
            &std::env::current_exe().context("the path of this program's own file is unknown")?,
        )?,
        file: absolute(file)?,
        common,
        name: label(&stem),
        bases: jobs.iter().filter(|(job, _)| job.kind == Kind::Base).count(),
        jobs: jobs.len(),
    };
    let text = match scheduler {
        Scheduler::Slurm => slurm(&blanks, resources),
        Scheduler::Hyperqueue => hyperqueue(&blanks, resources),
        Scheduler::Kubernetes => kubernetes(&blanks, resources)?,
    };
    output.text(&text)
}

/// A Slurm script that submits itself: run on a login node it queues an array for the base models and one for the runs.
fn slurm(blanks: &Blanks, resources: &Resources) -> String {
    let Blanks { program, file, common, name, bases, jobs } = blanks;
    let Resources { cpus, at_a_time, time, .. } = resources;
    let queue = |first: usize, last: usize, dependency: &str| {
        format!("sbatch --parsable --array={first}-{last}%{at_a_time} {dependency}\"$0\"")
    };
    let submit = match bases {
        0 => format!("runs=$({})", queue(0, jobs - 1, "")),
        _ => format!(
            "bases=$({})\n  runs=$({})\n  echo \"base models: job $bases\"",
            queue(0, bases - 1, ""),
            queue(*bases, jobs - 1, "--dependency=afterany:\"$bases\" ")
        ),
    };
    format!(
        r#"#!/bin/bash
# The jobs of a sweep as a Slurm array. Submit it with: bash THIS_FILE
# A task that is cut off by a time limit, a preemption or a lost node is requeued and resumes from its checkpoint.
#SBATCH --job-name={name}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --output={name}-%A_%a.log
set -uo pipefail

if [ -z "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
  set -e
  {submit}
  echo "runs: job $runs"
  exit 0
fi

# The shell gets the signal; the program saves, and ends with status 75.
trap 'kill -TERM "$task" 2>/dev/null' TERM USR1
{program} sweep task {file} --index "$SLURM_ARRAY_TASK_ID" {common} &
task=$!
# A signal ends the first wait early.
while true; do
  wait "$task"; status=$?
  kill -0 "$task" 2>/dev/null || break
done
if [ "$status" = 75 ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"#
    )
}

/// A script for HyperQueue: the base models are waited for, then all runs are queued.
fn hyperqueue(blanks: &Blanks, resources: &Resources) -> String {
    let Blanks { program, file, common, name, bases, jobs } = blanks;
    let cpus = resources.cpus;
    let submit = |array: String, wait: &str| {
        format!(
            "hq submit --name {name} --array {array} --cpus {cpus} --crash-limit 5 {wait}-- \\\n  \
             {program} sweep task {file} --index-from HQ_TASK_ID {common}\n"
        )
    };
    let mut text = String::from(
        "#!/bin/bash\n# The jobs of a sweep as HyperQueue tasks; a server and workers must be there (hq server \
         start, hq worker start).\n\
         # A task whose worker is lost is started again and resumes from its checkpoint.\nset -euo pipefail\n",
    );
    if *bases > 0 {
        text.push_str(&submit(format!("0-{}", bases - 1), "--wait "));
    }
    text.push_str(&submit(format!("{bases}-{}", jobs - 1), ""));
    text
}

/// A manifest of an Indexed Job; a pod that is evicted is replaced and resumes from the checkpoint.
fn kubernetes(blanks: &Blanks, resources: &Resources) -> Result<String> {
    let Blanks { program, file, common, name, jobs, .. } = blanks;
    let Resources { cpus, at_a_time, image, claim, mount, .. } = resources;
    let (Some(image), Some(claim)) = (image, claim) else {
        return Err(bad_input(
            "--for kubernetes needs --image (a container image that has this program) and --claim (a volume claim \
             that \
             holds the sweep's file, the data and the runs)",
        ));
    };
    let mut text = String::new();
    let command = format!("exec {program} sweep task {file} --index-from JOB_COMPLETION_INDEX {common}");
    write!(
        text,
        r#"# The jobs of a sweep as a Kubernetes Indexed Job: kubectl apply -f THIS_FILE
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completions: {jobs}
  parallelism: {at_a_time}
  completionMode: Indexed
  backoffLimitPerIndex: 5
  podFailurePolicy:
    rules:
      # Interrupted, and saved: not a failure.
      - action: Ignore
        onExitCodes:
          containerName: task
          operator: In
          values: [75]
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: task
          image: {image}
          command: ["/bin/sh", "-c", {command}]
          resources:
            requests:
              cpu: "{cpus}"
          volumeMounts:
            - name: shared
              mountPath: {mount}
      volumes:
        - name: shared
          persistentVolumeClaim:
            claimName: {claim}
"#,
        image = double_quoted(image),
        command = double_quoted(&command),
        mount = double_quoted(mount),
        claim = double_quoted(claim),
    )?;
    Ok(text)
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "/._-+=:,@%".contains(it);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A string for YAML, whose double quotes are JSON's.
fn double_quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name that all three schedulers take: lower-case letters, digits and hyphens, at most 50.
fn label(text: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    let all: String = text.chars().map(letter).take(50).collect();
    let trimmed = all.trim_matches('-');
    if trimmed.is_empty() { "sweep".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell_and_names_a_scheduler() {
        assert_eq!(quoted("/a/b-1.toml"), "/a/b-1.toml");
        assert_eq!(quoted("/it's here"), r"'/it'\''s here'");
        assert_eq!(quoted(""), "''");
        assert_eq!(label("B50_five steps"), "b50-five-steps");
        assert_eq!(label("--"), "sweep");
        assert_eq!(double_quoted("a \"b\""), r#""a \"b\"""#);
    }
}
