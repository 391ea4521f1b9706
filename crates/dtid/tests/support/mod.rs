//! Shared code of this workspace's loss tests: golden numbers from PyTorch, and finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;

/// One case of a golden file: named inputs, the value, the gradients that PyTorch finds.
pub(crate) struct Case {
    value: Value,
}

impl Case {
    pub(crate) fn load(json: &str, name: &str) -> Self {
        let mut file: Value = serde_json::from_str(json).expect("the golden file is JSON");
        let value = file[name].take();
        assert!(value.is_object(), "no golden case {name}");
        Self { value }
    }

    /// An input, f64 for numbers and u32 for `labels`-like integers.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        tensor(&self.value["inputs"][name], name)
    }

    /// The loss that PyTorch finds.
    pub(crate) fn value(&self) -> f64 {
        self.value["value"].as_f64().expect("a value")
    }

    /// The loss of `f` at the inputs `names`, its gradients, and finite differences, all agree.
    pub(crate) fn check(&self, names: &[&str], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let inputs: Vec<Tensor> = names.iter().map(|it| self.tensor(it)).collect();
        let value = f(&inputs).unwrap().to_scalar::<f64>().unwrap();
        let expected = self.value();
        assert_close(value, expected, 1e-10, "value");
        let gradients = check_gradient(&inputs, f);
        for (name, gradient) in names.iter().zip(gradients) {
            let expected = tensor(&self.value["gradients"][name], name);
            for (found, expected) in flat(&gradient).into_iter().zip(flat(&expected)) {
                assert_close(found, expected, 1e-9, name);
            }
        }
    }
}

/// Checks the gradient of `f` at `inputs` (f64) by central differences, and returns it.
pub(crate) fn check_gradient(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|it| Var::from_tensor(it).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|it| it.as_tensor().clone()).collect();
    let grads = f(&tensors).unwrap().backward().unwrap();
    let mut found = Vec::new();
    for (input_idx, var) in vars.iter().enumerate() {
        let gradient = match grads.get(var) {
            Some(it) => it.clone(),
            None => var.zeros_like().unwrap(),
        };
        let point = flat(var.as_tensor());
        for (idx, analytic) in flat(&gradient).into_iter().enumerate() {
            let step = 1e-5;
            let at = |shift: f64| {
                let mut moved = point.clone();
                moved[idx] += shift;
                let mut inputs: Vec<Tensor> = inputs.to_vec();
                inputs[input_idx] = Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap();
                f(&inputs).unwrap().to_scalar::<f64>().unwrap()
            };
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            assert_close(analytic, numeric, 1e-6, &format!("input {input_idx}, element {idx}"));
        }
        found.push(gradient);
    }
    found
}

/// No gradient reaches `detached`, whatever else the loss depends on.
pub(crate) fn check_detached(detached: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let var = Var::from_tensor(detached).unwrap();
    let grads = f(var.as_tensor()).unwrap().backward().unwrap();
    assert!(grads.get(&var).is_none(), "a gradient reached a detached input");
}

pub(crate) fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= tolerance * (1.0 + expected.abs()), "{what}: found {found}, expected {expected}");
}

/// All elements in row-major order.
pub(crate) fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn tensor(value: &Value, name: &str) -> Tensor {
    let numbers = |key: &str| value[key].as_array().unwrap_or_else(|| panic!("{name} has no {key}")).iter();
    let shape: Vec<usize> = numbers("shape").map(|it| it.as_u64().unwrap() as usize).collect();
    if value["kind"] == "index" {
        let data: Vec<u32> = numbers("data").map(|it| it.as_u64().unwrap() as u32).collect();
        return Tensor::from_vec(data, shape, &Device::Cpu).unwrap();
    }
    let data: Vec<f64> = numbers("data").map(|it| it.as_f64().unwrap()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}
