//! Plans of small sweeps.

use super::*;

fn of(text: &str) -> Result<Expanded> {
    let file: SweepFile = toml::from_str(text).unwrap();
    expand(&file, Path::new("a.toml"), "portable")
}

fn message(text: &str) -> String {
    let error = of(text).unwrap_err();
    assert_eq!(crate::cli::failure::exit_status(&error), 2);
    crate::cli::failure::sentence(&error)
}

const TWO: &str = "[[method]]\npreset = \"demo-lwf\"\n[[method]]\nname = \"short\"\n\
                   preset = \"demo-lwf\"\nset = [\"recipe.increment.training.epochs=2\"]\n";

#[test]
fn methods_splits_orders_and_seeds_are_multiplied() {
    let head = "seeds = [1, 2, 3]\norders = [{ seed = 1 }, { seed = 2 }]\n\
                splits = [[4, 2, 2, 2], [6, 4]]\nset = [\"recipe.base.training.epochs=3\"]\n";
    let expanded = of(&format!("{head}{TWO}")).unwrap();
    assert_eq!(expanded.runs.len(), 2 * 2 * 2 * 3);
    assert_eq!(expanded.methods, ["lwf", "short"]);
    let first = &expanded.runs[0];
    assert_eq!(first.name, format!("lwf-4+3x2-o1-s1-{}", first.hash));
    assert_eq!(first.group, "4+3x2-o1");
    let last = expanded.runs.last().unwrap().checked.config();
    assert_eq!((last.seed, last.increments.as_slice()), (3, &[6, 4][..]));
    assert_eq!(last.recipe.base.training.epochs, 3);
    assert_eq!(last.recipe.increment.training.epochs, 2);
    // Both methods share a base for each split, order and seed.
    assert_eq!(expanded.bases.len(), 2 * 2 * 3);
    assert_eq!(first.base, expanded.runs[12].base);
    assert_eq!(expanded.bases[&first.base].increments().sizes(), [4]);
}

#[test]
fn paired_seeds_and_orders_go_together_and_share_a_table() {
    let orders = "orders = [{ seed = 5 }, \"lucir_1993\"]\npaired = true\n";
    let preset = "[[method]]\npreset = \"cifar100-10c-lwf\"\n";
    let runs = of(&format!("seeds = [1, 2]\n{orders}{preset}")).unwrap().runs;
    let pairs: Vec<_> = runs.iter().map(|run| (run.checked.config().seed, run.group.as_str())).collect();
    assert_eq!(pairs, [(1, ""), (2, "")]);
    assert_eq!(runs[0].checked.config().class_order, OrderSpec::Seeded { seed: 5 });
    assert_eq!(runs[1].checked.config().class_order, OrderSpec::Published("lucir_1993".to_owned()));
}

#[test]
fn a_changed_file_keeps_the_names_of_what_is_the_same() {
    let names = |text: &str| of(text).unwrap().runs.into_iter().map(|it| it.name).collect::<Vec<_>>();
    let before = names(&format!("seeds = [1, 2]\n{TWO}"));
    let after = names(&format!("# more\nseeds = [3, 2, 1]\n{TWO}"));
    assert!(before.iter().all(|name| after.contains(name)));
    assert_eq!(after.len(), 6);
}

#[test]
fn settings_without_a_meaning_are_refused() {
    let preset = message("seeds = [1]\n[[method]]\npreset = \"demo-lwff\"\n");
    assert_eq!(preset, "a.toml: there is no preset \"demo-lwff\"; did you mean \"demo-lwf\"?");
    let twice = "seeds = [1]\n[[method]]\npreset = \"demo-lwf\"\n[[method]]\npreset = \"demo-lwf\"\n";
    assert_eq!(message(twice), "a.toml: two methods are called \"lwf\"; give one another name");
    let same = message(&format!("{twice}name = \"other\"\n"));
    assert!(same.starts_with("a.toml: method other: it is the very run that lwf-s1-"), "{same}");
    let change = message("seeds = [1]\nset = [\"sead=1\"]\n[[method]]\npreset = \"demo-lwf\"\n");
    assert_eq!(change, "a.toml: demo-lwf: there is no key sead; did you mean seed?");
    let split = message("seeds = [1]\nsplits = [[30, 2]]\n[[method]]\npreset = \"demo-lwf\"\n");
    assert_eq!(split, "a.toml: method lwf: classes: 32 of the 20 classes of procedural");
    let name = message("seeds = [1]\n[[method]]\npreset = \"demo-lwf\"\nname = \"a/b\"\n");
    assert!(name.contains("letters, digits"), "{name}");
}

#[test]
fn a_grid_is_a_method_for_each_value_with_each() {
    let grid = "grid = { \"recipe.increment.training.learning-rate\" = [0.1, 0.05], \"recipe.head\" = [\"linear\"] }\n";
    let expanded = of(&format!(
        "seeds = [1, 2]\n[[method]]\npreset = \"demo-lwf\"\n{grid}[[method]]\npreset = \"demo-joint\"\n"
    ))
    .unwrap();
    assert_eq!(
        expanded.methods,
        ["lwf-head-linear-learning-rate-0.1", "lwf-head-linear-learning-rate-0.05", "joint"]
    );
    assert_eq!(expanded.runs.len(), 3 * 2);
    let rate = |at: usize| expanded.runs[at].checked.config().recipe.increment.training.learning_rate;
    assert_eq!([rate(0), rate(2)], [0.1, 0.05]);
    assert!(
        expanded.runs[0].name.starts_with("lwf-head-linear-learning-rate-0.1-s1-"),
        "{}",
        expanded.runs[0].name
    );
    // For all methods; keys with equal endings are shown in full.
    let all =
        "grid = { \"recipe.base.training.epochs\" = [1, 2], \"recipe.increment.training.epochs\" = [3] }\n";
    let expanded = of(&format!("seeds = [1]\n{all}{TWO}"));
    let message = crate::cli::failure::sentence(&expanded.unwrap_err());
    assert!(
        message.contains("it is the very run that"),
        "the second method's own change is undone by the grid: {message}"
    );
    let expanded = of(&format!("seeds = [1]\n{all}[[method]]\npreset = \"demo-lwf\"\n")).unwrap();
    assert_eq!(expanded.methods[0], "lwf-recipe-base-training-epochs-1-recipe-increment-training-epochs-3");
}

#[test]
fn the_sweeps_of_the_docs_can_be_run_and_share_their_bases() {
    // Runs and base models of each.
    for (name, text, runs, bases) in [
        ("b50-five-steps", include_str!("../../../../../../docs/sweeps/b50-five-steps.toml"), 10, 3),
        ("b50-and-after", include_str!("../../../../../../docs/sweeps/b50-and-after.toml"), 12, 6),
        ("b50-more-seeds", include_str!("../../../../../../docs/sweeps/b50-more-seeds.toml"), 8, 4),
        ("equal-tasks", include_str!("../../../../../../docs/sweeps/equal-tasks.toml"), 27, 6),
        ("twenty-classes", include_str!("../../../../../../docs/sweeps/twenty-classes.toml"), 66, 12),
    ] {
        let expanded = of(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!((expanded.runs.len(), expanded.bases.len()), (runs, bases), "{name}");
    }
}
