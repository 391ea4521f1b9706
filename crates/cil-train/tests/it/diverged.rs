//! A network that diverged is noticed in the phase that made it so.

use crate::support::{data, data_free, plan, training};
use cil_train::Diverged;
use cil_train::event::Event;
use cil_train::learner::Learner;
use cil_train::methods::fine_tune;
use cil_train::recipe::{PhaseSpec, Recipe, SyntheticNorm, TermSpec, Trained};
use cil_train::term::CrossEntropy;

#[test]
fn a_network_that_diverges_is_named_with_task_phase_and_the_likely_key() {
    let (train, _) = data(4);
    let message = |recipe: Recipe, sizes: &[usize]| {
        let mut learner = Learner::new(plan(recipe, sizes, 1)).unwrap();
        loop {
            match learner.advance(&train) {
                Ok(Some(Event::RunEnd)) => panic!("nobody saw that it diverged"),
                Ok(_) => {}
                Err(error) => {
                    assert!(error.is::<Diverged>(), "{error:#}");
                    break error.to_string();
                }
            }
        }
    };
    let fast = |epochs: usize| {
        let mut training = training(epochs);
        (training.learning_rate, training.batch) = (1e6, 1000);
        training
    };
    // Many steps: a loss shows it. One step: its loss is that of the weights before it, so the logits show it.
    for (epochs, part) in [(1, "its logits hold "), (20, "the loss ")] {
        let base = message(fine_tune(fast(epochs), training(1)), &[2]);
        assert!(base.contains(part), "{base}");
        assert!(base.starts_with("the base model diverged in task 1, student phase: "), "{base}");
        assert!(
            base.contains("recipe.base.training.learning-rate is 1000000.0, which is far from"),
            "{base}"
        );
        let later = message(fine_tune(training(1), fast(epochs)), &[2, 2]);
        assert!(later.starts_with("the student diverged in task 2, student phase: "), "{later}");
        assert!(later.contains("recipe.increment.training.learning-rate is 1000000.0"), "{later}");
    }
    let with = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = data_free(SyntheticNorm::Joint);
        change(&mut recipe);
        message(recipe, &[2, 2])
    };
    let teacher = with(&|it| it.new_teacher.as_mut().unwrap().training = fast(1));
    assert!(teacher.starts_with("the new teacher diverged in task 2, new-teacher phase: "), "{teacher}");
    assert!(teacher.contains("recipe.new-teacher.training.learning-rate"), "{teacher}");
    let balanced = with(&|it| {
        let (trained, terms) = (Trained::All, it.base.terms.clone());
        it.balance = Some(PhaseSpec { trained, terms, training: fast(1) });
    });
    assert!(balanced.starts_with("the student diverged in task 2, balance phase: "), "{balanced}");
    let weighted = with(&|it| {
        if let TermSpec::CrossEntropy(CrossEntropy { weight, .. }) = &mut it.increment.terms[0] {
            *weight = 1e6;
        }
        (it.increment.training.learning_rate, it.increment.training.batch) = (0.5, 1000);
        it.increment.training.epochs = 1;
    });
    assert!(weighted.contains("recipe.increment.terms.0.weight is 1000000.0"), "{weighted}");
}
