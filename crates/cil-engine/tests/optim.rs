//! Optimisers and schedules against `torch.optim`, in `f64`; `golden/optim.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use cil_engine::optim::{Decay, Group, Optimizer, OptimizerConfig, Schedule};
use cil_engine::{Gradients, Parameters};
use serde_json::Value;

const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false };
const NESTEROV: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
const ADAM: OptimizerConfig = OptimizerConfig::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 };

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/optim.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn tensor(name: &str, value: &Value) -> Result<Tensor> {
    let numbers = numbers(value);
    let dims: &[usize] = if name == "a" { &[4, 3] } else { &[5] };
    Tensor::from_vec(numbers, dims, &Device::Cpu)
}

fn start(golden: &Value) -> Result<Parameters> {
    let values = ["a", "b"].map(|name| tensor(name, &golden["values"][name]).map(|it| (name.to_owned(), it)));
    Ok(Parameters::from_tensors(values.into_iter().collect::<Result<BTreeMap<_, _>>>()?))
}

fn groups() -> [Group; 2] {
    [
        Group { names: vec!["a".into()], lr_scale: 1.0, weight_decay: 0.01 },
        Group { names: vec!["b".into()], lr_scale: 2.0, weight_decay: 0.0 },
    ]
}

fn gradients(golden: &Value, step: usize) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    for name in ["a", "b"] {
        if !(name == "b" && step == 2) {
            gradients.add(name, tensor(name, &golden["gradients"][step][name])?)?;
        }
    }
    Ok(gradients)
}

fn take(optimizer: &mut Optimizer, parameters: &mut Parameters, golden: &Value, step: usize) -> Result<()> {
    let rate = numbers(&golden["rates"])[step];
    optimizer.step(parameters, &gradients(golden, step)?, &groups(), rate).map(|_| ())
}

#[test]
fn trajectories_are_pytorchs() -> Result<()> {
    let golden = golden();
    for (name, config) in [("sgd", SGD), ("nesterov", NESTEROV), ("adam", ADAM)] {
        let (mut parameters, mut optimizer) = (start(&golden)?, Optimizer::new(config));
        for step in 0..6 {
            take(&mut optimizer, &mut parameters, &golden, step)?;
            for parameter in ["a", "b"] {
                let ours = parameters.get(parameter)?.flatten_all()?.to_vec1::<f64>()?;
                let theirs = numbers(&golden[name][step][parameter]);
                let near = ours.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() < 1e-12);
                assert!(near, "{name}, step {step}, {parameter}: {ours:?} is not {theirs:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_restored_optimiser_goes_on_bit_for_bit() -> Result<()> {
    let golden = golden();
    for config in [SGD, NESTEROV, ADAM] {
        let (mut straight, mut optimizer) = (start(&golden)?, Optimizer::new(config));
        for step in 0..3 {
            take(&mut optimizer, &mut straight, &golden, step)?;
        }
        let (mut resumed, mut restored) = (straight.clone(), Optimizer::new(config));
        restored.load_state(&optimizer.state()?, &[&resumed])?;
        for step in 3..6 {
            take(&mut optimizer, &mut straight, &golden, step)?;
            take(&mut restored, &mut resumed, &golden, step)?;
        }
        for name in ["a", "b"] {
            let bits = |it: &Parameters| -> Result<Vec<u64>> {
                let values = it.get(name)?.flatten_all()?.to_vec1::<f64>()?;
                Ok(values.into_iter().map(f64::to_bits).collect())
            };
            assert_eq!(bits(&straight)?, bits(&resumed)?, "{config:?}, {name}");
        }
    }
    Ok(())
}

#[test]
fn schedules_are_pytorchs() {
    let golden = golden();
    let step = Schedule { warm_up: 0, decay: Decay::Step { every: 3, gamma: 0.5 } };
    let multi_step = Schedule::multi_step(&[4, 7], 0.1);
    for (name, schedule) in [("step", step), ("multi_step", multi_step), ("cosine", Schedule::cosine())] {
        for (position, wanted) in numbers(&golden[name]).into_iter().enumerate() {
            let rate = schedule.rate(0.4, position, 10);
            assert!((rate - wanted).abs() < 1e-12, "{name} at {position}: {rate} is not {wanted}");
        }
    }
}

#[test]
fn mistakes_are_named_and_nothing_moves() -> Result<()> {
    let golden = golden();
    let (mut parameters, mut optimizer) = (start(&golden)?, Optimizer::new(SGD));
    let version = parameters.version();
    let gradients = gradients(&golden, 0)?;
    let mut refused = |groups: &[Group], part: &str| {
        let message = optimizer.step(&mut parameters, &gradients, groups, 0.1).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let [a, b] = groups();
    refused(&[a.clone(), a.clone()], "a is in two groups");
    refused(&[a, Group { names: vec!["c".into()], ..b }], "no parameter is named c");
    assert_eq!(Optimizer::new(ADAM).state()?.iter().count(), 0);
    let mut refused = |tensors: &[(&str, &[f32])], part: &str| -> Result<()> {
        let mut state = Parameters::default();
        for (name, values) in tensors {
            state.set(name, Tensor::new(*values, &Device::Cpu)?.to_dtype(DType::F64)?);
        }
        let message = optimizer.load_state(&state, &[&parameters]).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        Ok(())
    };
    let dims = parameters.get("a")?.dims().to_vec();
    refused(&[("second.a", &[1.])], "no tensor second.a")?;
    refused(&[("first.c", &[1.])], "c, which is no parameter")?;
    refused(&[("first.a", &[1.]), ("steps.a", &[1.])], &format!("a is not F64 {dims:?}"))?;
    refused(&[("first.a", &[1.]), ("second.a", &[1.])], "not one of Sgd")?;
    assert_eq!(parameters.version(), version);
    Ok(())
}
