//! Layers joined in one tensor give what layers apart give: value and gradients.

use candle_core::{Device, Result, Tensor, Var};

use super::{ChannelReduction, LayerMoments, bn_kl_generated_to_stored, bn_kl_stored_to_generated};

fn wave(channels: usize, phase: f64, low: f64) -> Result<Var> {
    let values = (0..channels).map(|at| low + (1.7 * at as f64 + phase).sin());
    Var::from_tensor(&Tensor::from_iter(values.collect::<Vec<f64>>(), &Device::Cpu)?)
}

#[test]
fn joined_layers_give_what_layers_apart_give() -> Result<()> {
    let values = [3, 5, 2].iter().enumerate().map(|(at, channels)| {
        let phase = at as f64;
        let both = (wave(*channels, phase, 0.0)?, wave(*channels, phase + 0.3, 1.5)?);
        Ok((both, (wave(*channels, phase + 0.6, 0.0)?, wave(*channels, phase + 0.9, 1.5)?)))
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    let layers: Vec<LayerMoments<'_>> = values
        .iter()
        .map(|((mean, variance), (running_mean, running_variance))| LayerMoments {
            mean,
            variance,
            running_mean,
            running_variance,
        })
        .collect();
    for loss in [bn_kl_generated_to_stored, bn_kl_stored_to_generated] {
        for reduction in [ChannelReduction::Sum, ChannelReduction::Mean] {
            let joined = loss(&layers, reduction)?;
            let each = layers
                .iter()
                .map(|it| loss(std::slice::from_ref(it), reduction))
                .collect::<Result<Vec<_>>>()?;
            let apart = Tensor::stack(&each, 0)?;
            let apart =
                if reduction == ChannelReduction::Sum { apart.sum_all()? } else { apart.mean_all()? };
            let near = |one: &Tensor, other: &Tensor| -> Result<()> {
                let distance = (one - other)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(distance < 1e-12, "{reduction:?}: off by {distance}");
                Ok(())
            };
            near(&apart, &joined)?;
            let (apart, joined) = (apart.backward()?, joined.backward()?);
            for ((mean, variance), _) in &values {
                for var in [mean, variance] {
                    let of = |grads: &candle_core::backprop::GradStore| grads.get(var).cloned();
                    let (Some(apart), Some(joined)) = (of(&apart), of(&joined)) else {
                        panic!("no gradient")
                    };
                    near(&apart, &joined)?;
                }
            }
        }
    }
    Ok(())
}
