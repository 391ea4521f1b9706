//! The `dataset` key: a data set's name, `{ name = "..", classes = N }`, or `{ folder = "..", side = N }`.
//!
//! The number of classes is read from the data set's manifest or counted in its folder, and is written into the
//! configuration that a run records, so that a record can be read without the images. Of a published data set it is
//! known (`datasets/known.json`).

use std::path::{Path, PathBuf};

use anyhow::Result;
use cil_data::dataset::{Dataset, Outline};
use cil_data::fit::Fit;
use cil_data::folder::{self, BrokenImages, Decode, Folder, Subset};
use cil_data::known;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::cli::failure::bad_input;

/// Where decoded pictures are kept, among the data sets; it may be deleted at any time when nothing runs.
const CACHE: &str = ".cache";

/// Which images are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatasetSpec {
    /// One generated in memory, `procedural` (see [`cil_data::procedural`]), or one with a manifest, by its name.
    Named(Named),
    /// A folder of pictures.
    Folder(FolderSpec),
}

/// A data set with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Named {
    /// Its name, which is that of its folder among the data sets.
    pub name: String,
    /// How many classes it has, unless that is known of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
}

/// A folder of pictures; see [`cil_data::folder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FolderSpec {
    /// The folder.
    pub folder: PathBuf,
    /// Pixels of a side of the square that each picture becomes; see [`Fit::of`].
    pub side: usize,
    /// How many classes it has; counted where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Which of its classes are taken, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
    /// Whether broken files are left out; without this key they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_broken: Option<bool>,
    /// Whether whole pictures are kept, decoded, in a file among the data sets (`.cache`) instead of squares in memory:
    /// for data sets beyond memory, and so that `augmentation.resized-crop` cuts parts of the whole picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<bool>,
}

impl DatasetSpec {
    /// The data set generated in memory.
    pub const PROCEDURAL: &str = "procedural";

    /// The data set of that name.
    pub fn named(name: &str) -> Self {
        Self::Named(Named { name: name.to_owned(), classes: None })
    }

    /// Its name in results.
    pub fn name(&self) -> &str {
        match self {
            Self::Named(it) => &it.name,
            Self::Folder(it) => it.folder.file_name().and_then(|name| name.to_str()).unwrap_or("folder"),
        }
    }

    /// The data set that published class orders are of.
    pub(super) fn of_order(&self) -> String {
        match self {
            Self::Folder(FolderSpec { subset: Some(_), .. }) => "imagenet100".to_owned(),
            Self::Folder(FolderSpec { classes: Some(1000), .. }) => "imagenet1000".to_owned(),
            other => other.name().to_owned(),
        }
    }

    /// Whether its images are generated.
    pub fn is_procedural(&self) -> bool {
        self.name() == Self::PROCEDURAL && matches!(self, Self::Named(_))
    }

    /// How many classes it has, if that is known without looking.
    ///
    /// # Errors
    /// If it is not.
    pub fn classes(&self) -> Result<usize> {
        match self {
            Self::Named(Named { name, classes }) => {
                let known = known::classes(name);
                classes.or(known).ok_or_else(|| {
                    bad_input(format!(
                        "dataset: how many classes {name:?} has is not known here; write dataset = {{ name = \
                         {name:?}, \
                         classes = N }}"
                    ))
                })
            }
            Self::Folder(FolderSpec { folder, classes, .. }) => classes.ok_or_else(|| {
                let folder = folder.display();
                bad_input(format!(
                    "dataset.classes: the classes of {folder} were not counted; write classes = N"
                ))
            }),
        }
    }

    /// Refuses what cannot be a data set.
    pub(super) fn check(&self) -> Result<()> {
        let classes = match self {
            Self::Named(Named { name, classes }) => {
                let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
                if !is_name || name.len() > 100 {
                    return Err(bad_input(format!("dataset: {name:?} is not the name of a data set")));
                }
                classes
            }
            Self::Folder(spec) => {
                if !(1..=1024).contains(&spec.side) {
                    return Err(bad_input(format!(
                        "dataset.side is {}; use a value from 1 to 1024",
                        spec.side
                    )));
                }
                if spec.folder.as_os_str().is_empty() {
                    return Err(bad_input("dataset.folder is empty; name a folder of pictures"));
                }
                &spec.classes
            }
        };
        match classes {
            Some(count) if !(1..=usize::from(u16::MAX)).contains(count) => {
                Err(bad_input(format!("dataset.classes is {count}; use a value from 1 to 65535")))
            }
            _ => Ok(()),
        }
    }

    /// Counts the classes, where they are not written and it can be done: those of a folder, and those of a data set
    /// with a manifest below `data_dir`, if there is one (of a published data set it may be a part).
    pub(super) fn count(&mut self, data_dir: Option<&Path>) -> Result<()> {
        match self {
            Self::Folder(spec) if spec.classes.is_none() => {
                spec.classes = Some(spec.scan()?.classes.len());
            }
            Self::Named(Named { name, classes: classes @ None }) if name != Self::PROCEDURAL => {
                let found = data_dir.map(|data_dir| Dataset::outline(data_dir, name));
                let known = known::classes(name);
                match (found, known) {
                    (Some(Ok(outline)), known) if known != Some(outline.classes) => {
                        *classes = Some(outline.classes);
                    }
                    // A published one is asked for when its images are read.
                    (_, Some(_)) | (None, None) | (Some(Ok(_)), None) => {}
                    (Some(Err(error)), None) => return Err(bad_input(format!("dataset: {error:#}"))),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Its images. `data_dir` is where data sets with a manifest lie; `done` receives the number of decoded pictures.
    ///
    /// # Errors
    /// If it is not there, is broken, or has another number of classes than was said.
    pub fn load(&self, data_dir: &Path, done: &(dyn Fn(usize) + Sync)) -> Result<Dataset> {
        let dataset = match self {
            Self::Named(it) => Dataset::load(data_dir, &it.name)?,
            Self::Folder(spec) => spec.decoded(data_dir, done)?,
        };
        let (found, said) = (dataset.class_names().len(), self.classes()?);
        if found != said {
            return Err(bad_input(format!(
                "dataset: {} has {found} classes, the configuration says {said}; write dataset.classes = {found}, or \
                 bring all of it",
                self.name()
            )));
        }
        Ok(dataset)
    }

    /// How large it says it is; no image is read.
    ///
    /// # Errors
    /// If it is not there.
    pub fn outline(&self, data_dir: &Path) -> Result<Outline> {
        match self {
            Self::Named(it) => Dataset::outline(data_dir, &it.name),
            Self::Folder(spec) => {
                let folder = spec.scan()?;
                Ok(Outline {
                    classes: folder.classes.len(),
                    image: [3, spec.side, spec.side],
                    train: folder.train.len(),
                    test: folder.test.len(),
                })
            }
        }
    }
}

impl FolderSpec {
    fn scan(&self) -> Result<Folder> {
        let scanned = folder::scan(&self.folder).and_then(|folder| match self.subset {
            Some(subset) => folder.of(subset),
            None => Ok(folder),
        });
        scanned.map_err(|error| bad_input(format!("dataset.folder: {error:#}")))
    }

    fn decoded(&self, data_dir: &Path, done: &(dyn Fn(usize) + Sync)) -> Result<Dataset> {
        let by = Decode { fit: Fit::of(self.side), skip_broken: self.skip_broken.unwrap_or(false) };
        let folder = self.scan()?;
        let decoded = match self.packed {
            Some(true) => folder.packed(&by, &data_dir.join(CACHE), done),
            _ => folder.decode(&by, done),
        };
        let decoded = decoded.map_err(|error| match error.is::<BrokenImages>() {
            true => bad_input(format!("{error}").replace("--skip-broken", "dataset.skip-broken = true")),
            false => error,
        })?;
        Ok(decoded.dataset)
    }
}

impl Serialize for DatasetSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(Named { name, classes: None }) => serializer.serialize_str(name),
            Self::Named(it) => it.serialize(serializer),
            Self::Folder(it) => it.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DatasetSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Both tables in one, so that an error can name its key.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Either {
    name: Option<String>,
    folder: Option<PathBuf>,
    side: Option<usize>,
    classes: Option<usize>,
    subset: Option<Subset>,
    skip_broken: Option<bool>,
    packed: Option<bool>,
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = DatasetSpec;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .write_str("a data set's name, { name = \"..\", classes = N }, or { folder = \"..\", side = N }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<DatasetSpec, E> {
        Ok(DatasetSpec::named(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DatasetSpec, A::Error> {
        let Either { name, folder, side, classes, subset, skip_broken, packed } =
            Either::deserialize(MapAccessDeserializer::new(map))?;
        match (name, folder) {
            (Some(name), None)
                if side.is_none() && subset.is_none() && skip_broken.is_none() && packed.is_none() =>
            {
                Ok(DatasetSpec::Named(Named { name, classes }))
            }
            (None, Some(folder)) => {
                let side = side.ok_or_else(|| de::Error::missing_field("side"))?;
                Ok(DatasetSpec::Folder(FolderSpec { folder, side, classes, subset, skip_broken, packed }))
            }
            _ => Err(de::Error::custom(
                "a data set has either a name (and classes) or a folder (and side, classes, subset, skip-broken, \
                 packed)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct Holder {
        dataset: DatasetSpec,
    }

    fn read(text: &str) -> Result<DatasetSpec, String> {
        let read = toml::from_str::<Holder>(&format!("dataset = {text}"));
        read.map(|it| it.dataset).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn three_forms_go_round_and_others_are_refused() {
        for text in [
            "\"cifar100\"",
            "{ name = \"mine\", classes = 12 }",
            "{ folder = \"photos\", side = 64 }",
            "{ folder = \"imagenet\", side = 224, classes = 100, subset = \"first-100\", skip-broken = true, packed \
             = true }",
        ] {
            let spec = read(text).unwrap();
            let again = toml::to_string(&Holder { dataset: spec.clone() }).unwrap();
            assert_eq!(toml::from_str::<Holder>(&again).unwrap().dataset, spec, "{again}");
        }
        assert_eq!(read("\"cifar100\"").unwrap().classes().unwrap(), 100);
        assert_eq!(read("{ folder = \"photos\" }").unwrap_err(), "missing field `side`");
        assert!(read("{ folder = \"a\", name = \"b\", side = 1 }").unwrap_err().contains("either a name"));
        assert!(read("{ name = \"b\", side = 1 }").unwrap_err().contains("either a name"));
        assert!(read("{ foldr = \"a\" }").unwrap_err().starts_with("unknown field `foldr`"));
        assert!(read("3").unwrap_err().contains("a data set's name"));
    }

    #[test]
    fn what_is_no_data_set_is_refused() {
        let error_text = |text: &str| read(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(error_text("\"../x\""), "dataset: \"../x\" is not the name of a data set");
        assert_eq!(
            error_text("{ folder = \"x\", side = 0 }"),
            "dataset.side is 0; use a value from 1 to 1024"
        );
        assert!(error_text("{ folder = \"x\", side = 9223372036854775807 }").contains("from 1 to 1024"));
        assert!(error_text("{ name = \"x\", classes = 0 }").starts_with("dataset.classes is 0"));
        let unknown = read("\"mine\"").unwrap().classes().unwrap_err().to_string();
        assert!(unknown.contains("write dataset = { name = \"mine\", classes = N }"), "{unknown}");
    }

    #[test]
    fn classes_are_counted_where_they_are_not_written() {
        let root = tempfile::tempdir().unwrap();
        for class in ["b", "a"] {
            std::fs::create_dir_all(root.path().join(class)).unwrap();
            image::RgbImage::new(9, 9).save(root.path().join(class).join("1.png")).unwrap();
        }
        let mut spec = read(&format!("{{ folder = {:?}, side = 8 }}", root.path())).unwrap();
        spec.count(None).unwrap();
        assert_eq!(spec.classes().unwrap(), 2);
        let dataset = spec.load(Path::new("none"), &|_| {}).unwrap();
        assert_eq!(
            (dataset.class_names(), dataset.train().len()),
            (&["a".to_owned(), "b".to_owned()][..], 2)
        );
        assert_eq!(spec.outline(Path::new("none")).unwrap().image, [3, 8, 8]);
        let DatasetSpec::Folder(folder) = &mut spec else { panic!("it is a folder") };
        folder.packed = Some(true);
        let packed = spec.load(root.path(), &|_| {}).unwrap();
        assert_eq!(packed.train().read(1).unwrap(), dataset.train().image(1));
        assert!(root.path().join(".cache").is_dir());
        let DatasetSpec::Folder(folder) = &mut spec else { panic!("it is a folder") };
        folder.classes = Some(3);
        let error_text = spec.load(root.path(), &|_| {}).unwrap_err().to_string();
        assert!(error_text.contains("has 2 classes, the configuration says 3"), "{error_text}");
        std::fs::write(root.path().join("a/2.jpg"), "no picture").unwrap();
        let error_text = spec.load(root.path(), &|_| {}).unwrap_err().to_string();
        assert!(
            error_text.contains("a/2.jpg: it is not an image")
                && error_text.contains("dataset.skip-broken = true"),
            "{error_text}"
        );
    }
}
