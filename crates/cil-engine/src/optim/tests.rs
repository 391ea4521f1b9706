//! The rule in one pass against the rule in candle's operations, bit for bit.

use candle_core::{Device, Tensor};
use cil_random::{Draw, Stream};

use super::*;

const RULES: [OptimizerConfig; 3] = [
    OptimizerConfig::Sgd { momentum: 0.9, nesterov: false },
    OptimizerConfig::Sgd { momentum: 0.9, nesterov: true },
    OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
];

/// Values with zeros of both signs among them.
fn values(count: usize, dtype: DType, stream: &mut Stream) -> Tensor {
    let value = |at: usize, normal: f64| match at % 5 {
        0 => -0.0,
        1 => 0.0,
        _ => normal,
    };
    let values: Vec<f64> = (0..count).map(|at| value(at, stream.normal())).collect();
    Tensor::from_vec(values, count, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    match tensor.dtype() {
        DType::F32 => {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(|it| u64::from(it.to_bits())).collect()
        }
        _ => {
            let values = tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            values.into_iter().map(f64::to_bits).collect()
        }
    }
}

/// Over three steps, more values than a chunk holds, transposed tensors among them.
fn compare(config: OptimizerConfig, dtype: DType, weight_decay: f64) {
    let (rows, columns) = (1021, 23);
    let mut stream = Draw::new(1, "test").stream("values");
    let mut value = values(rows * columns, dtype, &mut stream).reshape((rows, columns)).unwrap();
    let mut before: Option<State> = None;
    for _ in 0..3 {
        let gradient = values(rows * columns, dtype, &mut stream).reshape((columns, rows)).unwrap();
        let gradient = gradient.t().unwrap();
        let of = Move {
            value: &value,
            gradient: &gradient,
            before: before.as_ref(),
            learning_rate: 0.07,
            weight_decay,
        };
        let (ours, state) = fused::moved(config, &of).unwrap().expect("values in memory");
        let (plain, wanted) = tensors::moved(config, &of).unwrap();
        assert_eq!(bits(&ours), bits(&plain), "{config:?} {dtype:?}");
        assert_eq!(bits(&state.first), bits(&wanted.first), "{config:?} {dtype:?}");
        assert_eq!(state.second.as_ref().map(bits), wanted.second.as_ref().map(bits));
        assert_eq!(state.steps, wanted.steps);
        (value, before) = (ours, Some(state));
    }
}

#[test]
fn one_pass_gives_the_bits_of_candles_operations() {
    for config in RULES {
        for dtype in [DType::F32, DType::F64] {
            for weight_decay in [0.0, 5e-4] {
                compare(config, dtype, weight_decay);
            }
        }
    }
}

#[test]
fn what_is_not_a_float_of_the_processor_is_left_to_candle() {
    let half = Tensor::zeros(4, DType::BF16, &Device::Cpu).unwrap();
    let of = Move { value: &half, gradient: &half, before: None, learning_rate: 0.1, weight_decay: 0.0 };
    assert!(fused::moved(RULES[0], &of).unwrap().is_none());
}
