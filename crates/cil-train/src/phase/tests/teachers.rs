//! Which images each of two teachers is followed on.

use super::*;

fn dual(rows: Rows, new_rows: Rows) -> TermSpec {
    let config = DtidConfig { temperature: 1.5, form: COLUMNS };
    TermSpec::DualTeacher(DualTeacher { weight: 0.8, config, rows, new_rows })
}

fn vid(teachers: Teachers, rows: Rows, regressor: Regressor) -> TermSpec {
    TermSpec::Vid(Vid { weight: 0.7, teachers, stages: vec![2], rows, new_rows: rows, regressor })
}

#[test]
fn the_gradient_is_right_whatever_images_teachers_are_followed_on() -> Result<()> {
    let joint = DtidConfig { temperature: 1.5, form: DualForm::Joint { weight: 0.9, match_scale: true } };
    let cases = [
        (dual(Rows::Old, Rows::All), vid(Teachers::Both, Rows::All, Regressor::Identity)),
        (dual(Rows::Synthetic, Rows::Real), vid(Teachers::New, Rows::Old, Regressor::Normed)),
        (
            TermSpec::DualTeacher(DualTeacher {
                weight: 0.8,
                config: joint,
                rows: Rows::All,
                new_rows: Rows::Real,
            }),
            vid(Teachers::Old, Rows::Synthetic, Regressor::Identity),
        ),
    ];
    for (at, (logits, maps)) in cases.into_iter().enumerate() {
        let norm = [SyntheticNorm::Joint, SyntheticNorm::Running, SyntheticNorm::Separate][at];
        check_terms(HeadKind::Cosine, vec![logits, maps], 2, norm, Trained::All, false)?;
    }
    Ok(())
}

/// Five generated images of new classes in place of real ones, beside five of old classes.
#[test]
fn the_gradient_is_right_when_new_images_are_generated() -> Result<()> {
    let check: StepCheck<'_> = &|job, _, draws, context| {
        let Some((_, spec)) = &job.teachers.replay else { anyhow::bail!("the step has a replay") };
        let Some(teacher) = &job.teachers.new else { anyhow::bail!("the step has a new teacher") };
        let (inversion, device) = (spec.inversion.clone(), context.device);
        let generator = Inversion::new(inversion, teacher.clone(), &executors(), 2, 1, device)?.replay();
        job.teachers.new_replay = Some(generator);
        job.spec.training.batch = 5;
        let drawn = job.draw_inputs(&[], draws, context)?;
        let inputs = Inputs::new(&drawn.layout, &drawn.tensors)?;
        let (first, replayed) = job.images(&drawn.layout, &inputs, context)?;
        let (said, view) = (first.said.as_ref(), replayed.as_ref().map(|it| &it.view));
        let labels = inputs.labels(&drawn.layout, said, view, job.n_old)?.to_vec1::<u32>()?;
        assert_eq!((first.n_new, labels.len()), (5, 10));
        assert!(labels[..5].iter().all(|it| (3..5).contains(it)) && labels[5..].iter().all(|it| *it < 3));
        // The outputs of their generator's teacher are those of the new teacher.
        let (known, _) = job.new_teacher_views(&first, None)?;
        let asked = passes::First { said: None, ..first };
        let (asked, _) = job.new_teacher_views(&asked, None)?;
        let logits = |view: Option<Outputs>| view.map(|it| it.logits.to_vec2::<f64>()).transpose();
        assert_eq!(logits(known)?, logits(asked)?);
        gradient_is_right(job, &[], draws, context, 9)
    };
    let terms = terms(COLUMNS, Trained::All);
    on_step(HeadKind::Cosine, terms, SyntheticNorm::Separate, Trained::All, true, check)
}

/// A loss's own value in a step.
fn value(term: TermSpec, name: &str) -> Result<f64> {
    let value = std::cell::Cell::new(f64::NAN);
    // Running statistics: what is said of one image does not depend on the others.
    on_step(
        HeadKind::Cosine,
        vec![term],
        SyntheticNorm::Frozen,
        Trained::All,
        false,
        &|job, samples, draws, context| {
            value.set(grad_of(job, samples, draws, context)?.parts[name].to_scalar::<f64>()?);
            Ok(())
        },
    )?;
    Ok(value.get())
}

/// Losses are means over their rows: five rows of ten are real, five generated; three of the real ones are new.
#[test]
fn a_loss_on_all_rows_is_made_of_those_on_its_parts() -> Result<()> {
    let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} is not {right}");
    let one_sided = |old: f64, new: f64, rows: Rows, new_rows: Rows| {
        let config = DtidConfig { temperature: 1.5, form: DualForm::Columns { old, new } };
        value(TermSpec::DualTeacher(DualTeacher { weight: 1.0, config, rows, new_rows }), "dual-teacher")
    };
    let old = |rows| one_sided(1.0, 0.0, rows, Rows::New);
    let new = |rows| one_sided(0.0, 1.0, Rows::All, rows);
    let maps = |teachers| move |rows| value(vid(teachers, rows, Regressor::Identity), "vid");
    let (old_maps, new_maps) = (maps(Teachers::Old), maps(Teachers::New));
    let of: [&dyn Fn(Rows) -> Result<f64>; 4] = [&old, &new, &old_maps, &new_maps];
    for of in of {
        let (all, real, synthetic) = (of(Rows::All)?, of(Rows::Real)?, of(Rows::Synthetic)?);
        near(all, (real + synthetic) / 2.0);
        near(10.0 * all, 3.0 * of(Rows::New)? + 7.0 * of(Rows::Old)?);
        assert!((real - synthetic).abs() > 1e-6, "{real}");
    }
    Ok(())
}
