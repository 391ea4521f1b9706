//! Results of other crates on a GPU, compared with the CPU: on a GPU or on the emulator of one
//! (docs/cuda-emulator.md); without either the tests say that they were skipped.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cil_data::augment::{Augmentation, Fill, Preparation};
use cil_data::dataset::Evaluate;
use cil_data::order::ClassOrder;
use cil_data::store::Images;
use cil_engine::measures;
use cil_random::Draw;
use cil_train::loss::pod::pod_spatial;
use dtid::vid::{VARIANCE_FLOOR, vid_grads};

use super::*;

mod candle;
mod losses;
mod ranks;
mod runs;

/// A GPU for one test at a time.
struct Turn {
    gpu: Gpu,
    _turn: MutexGuard<'static, ()>,
}

fn turn(test: &str) -> Option<Turn> {
    static GPU: OnceLock<std::result::Result<Gpu, String>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match GPU.get_or_init(|| Gpu::open(0).map_err(|error| error.to_string())) {
        Ok(gpu) => Some(Turn { gpu: gpu.clone(), _turn: turn }),
        Err(why) => {
            eprintln!("SKIPPED {test}: {why}");
            None
        }
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|it| it.to_vec1::<f32>());
    values.unwrap().into_iter().map(f32::to_bits).collect()
}

/// Twelve images of 5 x 7 of three classes, and six to evaluate on.
fn dataset() -> Dataset {
    let mut stream = Draw::new(1, "test").stream("pixels");
    let mut images = |count: usize| {
        let pixels = (0..count * 3 * 5 * 7).map(|_| stream.below(256) as u8).collect();
        Images::new(5, 7, pixels, (0..count).map(|at| (at % 3) as u16).collect()).unwrap()
    };
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    Dataset::of_images("noise", names, images(12), images(6)).unwrap()
}

#[test]
fn batches_are_the_processors_bits() {
    let Some(turn) = turn("batches of kept images") else { return };
    let device = turn.gpu.device();
    let order = ClassOrder::from_labels(vec![2, 0], 3).unwrap();
    let split = |dataset: Dataset| dataset.split(&order, 1, Evaluate::Test).unwrap();
    let (here, tested_here) = split(dataset());
    let (there, tested_there) = split(DeviceCache(Some(turn.gpu.clone())).keep(dataset()).unwrap());
    let mut samples = here.samples(0..2);
    samples.reverse();
    let normalisation = cil_data::normalise::Normalisation::published("cifar100", "lucir").unwrap();
    let simple = |crop_padding, flip, brightness| Augmentation {
        crop_padding,
        flip,
        brightness,
        ..Augmentation::none()
    };
    let plain = simple(4, true, 63.0 / 255.0);
    // The last two are made on the processor and brought.
    let (contrast, filled) = (
        Augmentation { contrast: 0.8, ..plain.clone() },
        Augmentation { crop_fill: Fill::Mean, ..plain.clone() },
    );
    for augmentation in [plain, simple(0, false, 0.0), simple(9, true, 1.0), contrast, filled] {
        let what = augmentation.clone();
        let preparation = Preparation { augmentation, normalisation: normalisation.clone() };
        for position in 0..4 {
            let draw = Draw { position, ..Draw::new(7, "test images") };
            for draw in [Some(draw), None] {
                let expected = here.images(&samples, &preparation, draw, &Device::Cpu).unwrap();
                let found = there.images(&samples, &preparation, draw, &device).unwrap();
                assert_eq!(found.dims(), expected.dims());
                assert_eq!(bits(&found), bits(&expected), "{what:?} {draw:?}");
                // A tensor for the processor is made there.
                let again = there.images(&samples, &preparation, draw, &Device::Cpu).unwrap();
                assert_eq!(bits(&again), bits(&expected));
            }
        }
        let expected = tested_here.batches(2, 3, &preparation, &Device::Cpu);
        for (found, expected) in tested_there.batches(2, 3, &preparation, &device).zip(expected) {
            let ((found, labels), (expected, expected_labels)) = (found.unwrap(), expected.unwrap());
            assert_eq!((bits(&found), labels), (bits(&expected), expected_labels));
        }
    }
    assert_eq!((here.reads(0), there.reads(0)), (120, 240), "an image counts as read wherever it lies");
}

fn noise(dims: &[usize], part: &str) -> Tensor {
    let mut stream = Draw::new(2, "test").stream(part);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.between(-1.0, 1.0) as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Whether two tensors are alike but for the order of sums in `f32`.
fn assert_near(found: &Tensor, expected: &Tensor, what: &str) {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let size = expected.iter().fold(1e-30f32, |size, it| size.max(it.abs()));
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 2e-5 * size, "{what} {at}: {found}, not {expected}");
    }
}

#[test]
fn losses_on_maps_are_the_processors() {
    let Some(turn) = turn("losses on maps") else { return };
    let device = turn.gpu.device();
    let there = |tensor: &Tensor| tensor.to_device(&device).unwrap();
    for dims in [[4, 16, 9, 8], [2, 5, 1, 3], [9, 64, 4, 4]] {
        let (map, target) = (noise(&dims, "map"), noise(&dims, "target"));
        let (loss, grad) = pod_spatial(&map, &target, 3.0).unwrap();
        let (found, found_grad) = pod_spatial(&there(&map), &there(&target), 3.0).unwrap();
        assert_near(&found, &loss, "pod");
        assert_near(&found_grad, &grad, "pod's gradient");
        let raw = noise(&dims[1..2], "raw");
        let expected = vid_grads(&map, &target, &raw, 0.7).unwrap();
        let found =
            measures::gaussian(&there(&map), &there(&target), &there(&raw), VARIANCE_FLOOR, 0.7).unwrap();
        let found = found.unwrap();
        assert_near(&found.loss, &expected.loss, "vid");
        assert_near(&found.mean, &expected.mean, "vid's gradient to the mean");
        assert_near(&found.raw_variance, &expected.raw_variance, "vid's gradient to the variances");
    }
}
