//! What the embedded data set promises, on a short budget; `crates/cil-data/tests/procedural.rs` holds its linear part.

use crate::{Place, json};

/// Trains a demo preset on ten classes, six of them base classes, with images, class order and weights of that seed.
fn run(place: &Place, method: &str, seed: usize, epochs: [usize; 2]) -> serde_json::Value {
    let preset = format!("demo-{method}");
    let name = format!("{method}-{seed}");
    let seed = seed.to_string();
    let changes = [
        "increments=[6, 4]".to_owned(),
        format!("procedural.seed={seed}"),
        format!("class-order.seed={seed}"),
        "procedural.config.train-per-class=200".to_owned(),
        "recipe.base.training.batch=64".to_owned(),
        "recipe.increment.training.batch=64".to_owned(),
        "recipe.increment.training.learning-rate=0.1".to_owned(),
        format!("recipe.base.training.epochs={}", epochs[0]),
        format!("recipe.increment.training.epochs={}", epochs[1]),
    ];
    let mut arguments = vec!["run", &preset, "--name", &name, "--seed", &seed];
    arguments.extend(changes.iter().flat_map(|change| ["--set", change]));
    place.ok(&arguments);
    json(place.path().join("runs").join(&name).join("result.json"))
}

#[test]
fn joint_training_learns_it_and_fine_tuning_forgets_it() {
    let place = Place::new();
    for seed in 1..=3 {
        let joint = run(&place, "joint", seed, [1, 8])["last_accuracy"].as_f64().expect("an accuracy");
        assert!(joint > 0.85, "seed {seed}: joint {joint}");
        let forgetful = run(&place, "fine-tune", seed, [8, 4]);
        let of = |task: usize, key: &str| forgetful["tasks"][task][key].as_f64().expect("an accuracy");
        let (base, old, new) = (of(0, "accuracy"), of(1, "old_accuracy"), of(1, "new_accuracy"));
        // There was something to forget, and something was learned instead.
        assert!(base > 0.7 && new > 0.5, "seed {seed}: base {base}, new {new}");
        assert!(old < 0.1, "seed {seed}: old {old}");
    }
}
