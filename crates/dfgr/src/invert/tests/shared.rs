//! An inversion by several ranks is the inversion by one: the loss on the batch norms' moments, which are those of the
//! batch of all ranks, and its gradient.

use cil_engine::ranks::{on_threads, shared};

use super::*;

/// An inversion by `count` ranks, on each of them.
fn on_ranks<T: Send>(
    count: usize,
    config: &InversionConfig,
    teacher: impl Fn(&ExecutorFactory) -> Result<Frozen> + Sync,
    work: impl Fn(&mut Inversion) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let each = on_threads(count, |ranks| {
        let executors = shared(cpu(), &ranks);
        let mut inversion =
            Inversion::new(config.clone(), teacher(&executors)?, &executors, 3, 1, &Device::Cpu)?;
        work(&mut inversion)
    });
    each.into_iter().collect()
}

type Parts = (BTreeMap<String, f64>, BTreeMap<String, Vec<f32>>);

/// The parts of the loss, and the gradient of every weight, of the first iteration.
fn grad(inversion: &mut Inversion) -> Result<Parts> {
    let grad = inversion.grad(&inversion.inputs()?)?;
    let parts = grad.parts.iter().map(|(name, part)| Ok((name.clone(), part.to_scalar::<f32>()?.into())));
    let gradients = grad.gradients.iter();
    let gradients = gradients.map(|(name, it)| Ok((name.to_owned(), it.flatten_all()?.to_vec1()?)));
    Ok((parts.collect::<Result<_>>()?, gradients.collect::<Result<_>>()?))
}

fn check(count: usize, config: &InversionConfig) -> Result<()> {
    let teacher = |executors: &ExecutorFactory| teacher(executors, DType::F32);
    let alone = on_ranks(1, config, teacher, grad)?.remove(0);
    let together = on_ranks(count, config, teacher, grad)?;
    for rank in &together {
        assert_eq!(*rank, together[0], "every rank has the same bits");
    }
    let (parts, gradients) = &together[0];
    assert!(parts.contains_key("statistics") && parts.len() == alone.0.len());
    for (name, part) in parts {
        let expected = alone.0[name];
        assert!((part - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{name}: {part}, alone {expected}");
    }
    let largest = alone.1.values().flatten().fold(0f32, |largest, it| largest.max(it.abs()));
    for (name, gradient) in gradients {
        for (found, expected) in gradient.iter().zip(&alone.1[name]) {
            let distance = (found - expected).abs();
            // Sums of thousands of values that cancel, in f32 and another order.
            assert!(distance <= 3e-5 * (largest + expected.abs()), "{name}: {found}, alone {expected}");
        }
    }
    Ok(())
}

#[test]
fn the_loss_of_two_ranks_and_its_gradient_are_those_of_one() -> Result<()> {
    let mut of_moments = config(false);
    of_moments.weights.statistics =
        Statistics { weight: 1.0, direction: Direction::GeneratedToStored, reduction: ChannelReduction::Sum };
    check(2, &of_moments)?;
    // Twelve rows in uneven shares, and every part of the loss; pairs reach over the ranks.
    for (count, direction) in [(5, Direction::StoredToGenerated), (3, Direction::GeneratedToStored)] {
        check(count, &every_part(config(count == 5), direction, ChannelReduction::Mean))?;
    }
    Ok(())
}

#[test]
fn statistics_of_each_ranks_own_rows_would_be_another_loss() -> Result<()> {
    // Sharing must not give: the same rows, each half with moments of its own.
    let (executors, config) = (cpu(), config(false));
    let teacher = teacher(&executors, DType::F32)?;
    let inversion = Inversion::new(config.clone(), teacher.clone(), &executors, 3, 1, &Device::Cpu)?;
    let images = inversion.replay().sample(config.batch, Draw::new(3, "halves"))?.images;
    let loss = |images: &Tensor| -> Result<f32> {
        let moments = Moments::new(&teacher.probe(images)?.moments)?;
        inversion.stored.from_generated(&moments.mean, &moments.variance)?.to_scalar()
    };
    let half = config.batch / 2;
    let halves = [loss(&images.narrow(0, 0, half)?)?, loss(&images.narrow(0, half, half)?)?];
    let whole = loss(&images)?;
    assert!((whole - f32::midpoint(halves[0], halves[1])).abs() > 1e-4 * whole, "{whole} {halves:?}");
    Ok(())
}

#[test]
fn iterations_of_several_ranks_stay_the_same_everywhere_and_near_one() -> Result<()> {
    let teacher = |executors: &ExecutorFactory| teacher(executors, DType::F32);
    let run = |inversion: &mut Inversion| {
        let report = inversion.advance(25)?;
        let weight: Vec<f32> = inversion.parameters.get("end.conv.weight")?.flatten_all()?.to_vec1()?;
        Ok((report.losses, weight))
    };
    let alone = on_ranks(1, &config(true), teacher, run)?.remove(0);
    let together = on_ranks(3, &config(true), teacher, run)?;
    together.iter().for_each(|rank| assert_eq!(*rank, together[0]));
    for (name, loss) in &together[0].0 {
        assert!((loss - alone.0[name]).abs() < 1e-3 * (1.0 + loss.abs()), "{name}: {loss} {}", alone.0[name]);
    }
    Ok(())
}
