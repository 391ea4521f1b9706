//! Arguments of the commands that work on model files and folders of images.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The end of the help of `train`.
pub(super) const TRAIN_HELP: &str = "\
Examples:
  cil-runner train photos --out photos.safetensors
  cil-runner train photos --out photos.safetensors --image-side 64 --network torchvision-18 --epochs 60

One folder for each class: photos/cat/*.jpg, photos/dog/*.png. Classes are learned in the order of their names.";

/// The end of the help of `extend`.
pub(super) const EXTEND_HELP: &str = "\
Examples:
  cil-runner extend photos.safetensors birds --out photos2.safetensors
  cil-runner extend photos.safetensors birds --out photos2.safetensors --eval photos/val --report birds.html
  cil-runner extend resnet20.safetensors birds --out more.safetensors --classes airplane,automobile,bird,cat,deer,dog,\\
frog,horse,ship,truck --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

The old model's file is only read. A ResNet of torchvision, timm or akamaster/pytorch_resnet_cifar10 is a model too; its
classes and normalisation come from its metadata, from a config.json beside it, or from the flags.";

/// The end of the help of `evaluate`.
pub(super) const EVALUATE_HELP: &str = "\
Examples:
  cil-runner evaluate photos2.safetensors photos/val
  cil-runner evaluate photos2.safetensors birds --json

The folder may have only some of the model's classes; all classes of the model compete nevertheless.";

/// The end of the help of `predict`.
pub(super) const PREDICT_HELP: &str = "\
Examples:
  cil-runner predict photos2.safetensors one.jpg two.png
  cil-runner predict photos2.safetensors inbox --top-k 3 --csv";

/// The end of the help of `export`.
pub(super) const EXPORT_HELP: &str = "\
Examples:
  cil-runner export photos2.safetensors --onnx photos2.onnx
  cil-runner export photos2.safetensors --torch photos2-torch.safetensors

The ONNX file is of opset 17. Its input `images` is float32 [N, 3, side, side], RGB in [0, 1], not normalised: the file
does that itself. Its output `logits` is [N, classes]; class names are in its metadata.";

/// The end of the help of `push`.
pub(super) const PUSH_HELP: &str = "\
Examples:
  cil-runner push photos2.safetensors hf://somebody/photos --dry-run
  cil-runner push photos2.safetensors hf://somebody/photos --private --license mit

Needs a program that was built with --features hub, and a token in HF_TOKEN that may write. --dry-run prints the card and
pushes nothing. Every command that reads a model reads hf://owner/name, too.";

/// Commands on a model file and images of one's own.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a first model on a folder of images
    #[command(after_help = TRAIN_HELP)]
    Train(Train),
    /// Teach a model new classes from a folder of their images, without the old ones
    #[command(after_help = EXTEND_HELP)]
    Extend(Extend),
    /// Measure a model on a folder of images
    #[command(after_help = EVALUATE_HELP)]
    Evaluate(EvaluateModel),
    /// Predict the classes of images
    #[command(after_help = PREDICT_HELP)]
    Predict(Predict),
    /// Generate images from a model alone
    Generate(Generate),
    /// Describe a model file: classes, network, normalisation, statistics, and origin
    Inspect(Inspect),
    /// Write a model as ONNX, or for torchvision and timm
    #[command(after_help = EXPORT_HELP)]
    Export(Export),
    /// Put a model on the Hugging Face hub, with a card written from its record
    #[command(after_help = PUSH_HELP)]
    Push(Push),
}

/// Information that a file of another program may lack.
#[derive(Args, Clone, Debug, Default)]
pub struct About {
    /// Class names in the order of the logits, separated by commas, or a file with one name a line; for a model of
    /// another program whose file does not name them
    #[arg(long, value_name = "NAMES|FILE")]
    pub classes: Option<String>,
    /// Mean of each colour of pixels in [0, 1], for a model of another program
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each colour, for a model of another program
    #[arg(long = "std", value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub deviation: Option<Vec<f32>>,
    /// Height and width of the network's images: of a model of another program, 224 or 32 by its first layer otherwise
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(8..=1024))]
    pub image_side: Option<u16>,
}

/// Arguments of `train`.
#[derive(Args, Debug)]
pub struct Train {
    /// A folder with one folder of images for each class
    pub folder: PathBuf,
    /// The model file that is written
    #[arg(long, value_name = "MODEL")]
    pub out: PathBuf,
    /// Height and width to which images are resized
    #[arg(long, value_name = "PIXELS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(8..=1024))]
    pub image_side: u16,
    /// The network [default: resnet32 up to 48 pixels, resnet18 above]
    #[arg(long, value_enum)]
    pub network: Option<NetworkName>,
    /// Number of epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,
    /// Change one key of the recipe, such as base.training.learning-rate=0.05; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Leave statistics of the features out of the file; later extensions then generate images in their place
    #[arg(long)]
    pub no_statistics: bool,
    /// Write a page with accuracies by class and the curves of the losses
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Leave broken images out instead of refusing the folder
    #[arg(long)]
    pub skip_broken: bool,
}

/// A network that `train` begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// ResNet-20 for small images, features without a closing ReLU (LUCIR's).
    #[value(name = "resnet20")]
    Resnet20,
    /// ResNet-32 for small images, features without a closing ReLU (LUCIR's).
    #[value(name = "resnet32")]
    Resnet32,
    /// ResNet-18 with the ImageNet stem, features without a closing ReLU.
    #[value(name = "resnet18")]
    Resnet18,
    /// ResNet-20 for small images, as akamaster's.
    #[value(name = "cifar-20")]
    Cifar20,
    /// ResNet-18 as torchvision's.
    #[value(name = "torchvision-18")]
    Torchvision18,
    /// ResNet-50 as torchvision's.
    #[value(name = "torchvision-50")]
    Torchvision50,
}

/// How much of the network an extension trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Effort {
    /// The backbone is not trained: seconds to minutes.
    Quick,
    /// The backbone is trained.
    Full,
}

/// How an extension learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The backbone is frozen; the classifier is computed from statistics of features, kept ones or those of generated
    /// images.
    Statistics,
    /// The backbone and the old classes' weights are frozen; logistic regression on new and generated images fits the
    /// weights of the new classes.
    Logistic,
    /// The backbone is frozen; the head is trained on new images and generated ones of the old classes.
    Head,
    /// The whole network is trained on new and generated images, with both teachers' logits distilled (DF-GR, DT-ID).
    Dfgr,
    /// The whole network is trained on the new images only, which shows forgetting.
    FineTune,
}

/// Arguments of `extend`.
#[derive(Args, Debug)]
pub struct Extend {
    /// The model that is extended; its file is only read
    pub model: PathBuf,
    /// A folder of images of new classes, a folder a class
    pub folder: PathBuf,
    /// The model file that is written
    #[arg(long, value_name = "MODEL2")]
    pub out: PathBuf,
    /// How it learns [default: by --effort and the statistics in the file]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Whether the backbone may change
    #[arg(long, value_enum, default_value_t = Effort::Quick)]
    pub effort: Effort,
    /// Remaining images of old classes, one folder for each class
    #[arg(long, value_name = "DIR")]
    pub exemplars: Option<PathBuf>,
    /// Images to measure on, a folder a class, old and new; else a tenth of the new ones is held out for it
    #[arg(long, value_name = "DIR")]
    pub eval: Option<PathBuf>,
    /// Write a report on old and new classes
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Change one key of the recipe, such as increment.training.epochs=5; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Learn all images of the folder, and hold none out to measure on
    #[arg(long)]
    pub no_held_out: bool,
    /// Leave broken images out instead of refusing the folder
    #[arg(long)]
    pub skip_broken: bool,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateModel {
    /// A model file
    pub model: PathBuf,
    /// A folder with one folder of images for each class
    pub folder: PathBuf,
    /// Leave broken images out instead of refusing the folder
    #[arg(long)]
    pub skip_broken: bool,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `predict`.
#[derive(Args, Debug)]
pub struct Predict {
    /// A model file
    pub model: PathBuf,
    /// Images, or folders of them
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<PathBuf>,
    /// Number of classes printed for each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub top_k: u16,
    /// Print CSV: file, rank, class, probability
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Leave broken images out instead of refusing all
    #[arg(long)]
    pub skip_broken: bool,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `generate`.
#[derive(Args, Debug)]
pub struct Generate {
    /// A model file
    pub model: PathBuf,
    /// A picture of all classes, or a folder that gets a folder a class
    #[arg(long, value_name = "FILE.png|DIR")]
    pub out: PathBuf,
    /// Number of images, of all classes together
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub images: u32,
    /// Training steps of the generator
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: u32,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A model file
    pub model: PathBuf,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
#[group(id = "format", required = true, multiple = true, args = ["onnx", "torch"])]
pub struct Export {
    /// A model file
    pub model: PathBuf,
    /// Write an ONNX file
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// Leave batch norms as nodes of their own instead of folding them into the convolutions before them
    #[arg(long, requires = "onnx")]
    pub keep_batch_norms: bool,
    /// Write a safetensors file in the tensor names that torchvision and timm load
    #[arg(long, value_name = "FILE")]
    pub torch: Option<PathBuf>,
    /// Information that the file may lack
    #[command(flatten)]
    pub about: About,
}

/// Arguments of `push`.
#[derive(Args, Debug)]
pub struct Push {
    /// A model file that train or extend wrote
    pub model: PathBuf,
    /// The repository, as hf://owner/name; it is made if it is not there
    #[arg(value_name = "hf://OWNER/NAME")]
    pub repository: String,
    /// Make the repository private if it is not there yet
    #[arg(long)]
    pub private: bool,
    /// The license that the card states, such as mit or cc-by-4.0; none is stated otherwise
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
    /// Print the card and push nothing
    #[arg(long)]
    pub dry_run: bool,
}
