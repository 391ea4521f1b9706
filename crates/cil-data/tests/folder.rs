//! Folders of pictures as people have them, and every way in which one can be wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::Path;

use cil_data::dataset::Evaluate;
use cil_data::fit::Fit;
use cil_data::folder::{self, BrokenImages, Decode, Folder, decode_file};
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

const BY: Decode = Decode { fit: Fit { side: 8, shorter: 8 }, skip_broken: false };

/// Writes a picture of one colour.
fn write(root: &Path, path: &str, colour: u8, format: ImageFormat) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(11, 9, Rgb([colour, 0, 255])).save_with_format(path, format).unwrap();
}

fn png(root: &Path, path: &str, colour: u8) {
    write(root, path, colour, ImageFormat::Png);
}

/// Three classes without parts: flat, nested, and with names in other scripts.
fn photos() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (at, path) in
        ["猫/a.png", "猫/deep/er/b.PNG", "кот/один.png", "кот/два.png", "Zebra/1.png", "Zebra/2.png"]
            .into_iter()
            .enumerate()
    {
        png(root.path(), path, 10 * at as u8);
    }
    root
}

fn message(root: &TempDir) -> String {
    let error = folder::scan(root.path()).unwrap_err();
    format!("{error:#}").replace(&root.path().display().to_string(), "F")
}

fn colours(folder: &Folder) -> Vec<(u8, usize)> {
    let decoded = folder.decode(&BY, &|_| {}).unwrap();
    let train = decoded.dataset.train();
    (0..train.len()).map(|at| (train.image(at)[0], train.label(at))).collect()
}

#[test]
fn classes_are_the_folders_sorted_by_name_in_any_script() {
    let root = photos();
    let folder = folder::scan(root.path()).unwrap();
    assert_eq!(folder.classes, ["Zebra", "кот", "猫"]);
    assert_eq!((folder.train.len(), folder.test.len(), folder.passed_over), (6, 0, 0));
    assert_eq!(colours(&folder), [(40, 0), (50, 0), (30, 1), (20, 1), (0, 2), (10, 2)]);
}

#[test]
fn what_is_no_picture_is_passed_over_and_a_picture_of_another_name_is_not() {
    let root = photos();
    fs::write(root.path().join("кот/notes.txt"), "two cats").unwrap();
    fs::write(root.path().join("кот/.hidden.png"), "no").unwrap();
    fs::create_dir(root.path().join(".git")).unwrap();
    write(root.path(), "кот/three", 60, ImageFormat::Bmp);
    write(root.path(), "Zebra/called.jpg", 70, ImageFormat::Gif);
    // A link back up must not be followed forever, and a pipe not be waited for.
    std::os::unix::fs::symlink(root.path().join("кот"), root.path().join("кот/again")).unwrap();
    std::process::Command::new("mkfifo").arg(root.path().join("кот/pipe.png")).status().unwrap();
    let folder = folder::scan(root.path()).unwrap();
    assert_eq!((folder.train.len(), folder.passed_over), (8, 2));
    let found = colours(&folder);
    assert!(found.contains(&(60, 1)) && found.contains(&(70, 0)), "{found:?}");
}

#[test]
fn parts_are_found_by_their_names() {
    for part in ["test", "val", "valid", "validation"] {
        let root = tempfile::tempdir().unwrap();
        for path in ["train/cat/1.png", "train/dog/images/2.png", &format!("{part}/dog/3.png")] {
            png(root.path(), path, 9);
        }
        png(root.path(), "unlabelled/x/4.png", 9);
        let folder = folder::scan(root.path()).unwrap();
        assert_eq!((folder.classes.len(), folder.train.len()), (2, 2));
        assert_eq!(folder.test.iter().map(|file| file.label).collect::<Vec<_>>(), [1]);
    }
    // ImageNet's own test images have no labels.
    let root = tempfile::tempdir().unwrap();
    for path in ["train/cat/1.png", "val/cat/2.png", "test/images/3.png"] {
        png(root.path(), path, 9);
    }
    assert!(folder::scan(root.path()).unwrap().test[0].path.ends_with("val/cat/2.png"));
    fs::remove_dir_all(root.path().join("val")).unwrap();
    assert_eq!(
        message(&root),
        "F/test has a folder \"images\", which F/train lacks; name its folders as the classes there, or move it away"
    );
}

#[test]
fn a_class_may_be_called_train() {
    let root = tempfile::tempdir().unwrap();
    for path in ["train/1.png", "tram/2.png", "test/3.png"] {
        png(root.path(), path, 9);
    }
    let folder = folder::scan(root.path()).unwrap();
    assert_eq!(
        (folder.classes, folder.train.len()),
        (["test", "train", "tram"].map(str::to_owned).to_vec(), 3)
    );
    // Parts without folders of classes are no classes.
    fs::remove_dir_all(root.path().join("tram")).unwrap();
    assert!(message(&root).starts_with("F/train has no folder of a class"), "{}", message(&root));
    // Both parts have a class of that name.
    let root = tempfile::tempdir().unwrap();
    for path in ["train/train/1.png", "train/tram/2.png", "val/train/3.png"] {
        png(root.path(), path, 9);
    }
    let folder = folder::scan(root.path()).unwrap();
    assert_eq!((folder.classes.len(), folder.test.len(), folder.test[0].label), (2, 1, 0));
}

#[test]
fn wrong_folders_are_refused() {
    let root = tempfile::tempdir().unwrap();
    assert!(
        message(&root)
            .starts_with("F has no folder of a class; put the pictures of each class into a folder")
    );
    png(root.path(), "1.png", 9);
    assert!(message(&root).starts_with("F has no folder of a class"));
    png(root.path(), "cat/1.png", 9);
    fs::create_dir(root.path().join("dog")).unwrap();
    assert_eq!(message(&root), "F: the folder dog holds no picture; move it away");
    fs::create_dir(root.path().join("elk")).unwrap();
    assert_eq!(message(&root), "F: the folders dog, elk hold no picture; move them away");
    let missing = folder::scan(&root.path().join("none")).unwrap_err();
    assert!(format!("{missing:#}").contains("cannot read the folder"));
    use std::os::unix::ffi::OsStrExt;
    fs::create_dir(root.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"))).unwrap();
    assert!(message(&root).contains("a name that is not Unicode"));
}

#[test]
fn all_broken_files_are_named_or_left_out() {
    let root = photos();
    fs::write(root.path().join("猫/empty.jpg"), "").unwrap();
    fs::write(root.path().join("кот/text.png"), "no picture").unwrap();
    std::os::unix::fs::symlink("nowhere.png", root.path().join("Zebra/dangling.png")).unwrap();
    let folder = folder::scan(root.path()).unwrap();
    let error = folder.decode(&BY, &|_| {}).unwrap_err();
    let BrokenImages { broken, files } = error.downcast_ref().unwrap();
    assert_eq!((broken.len(), *files), (3, 9));
    let text = error.to_string();
    assert!(text.starts_with("3 of 9 images cannot be read;"), "{text}");
    for named in ["dangling.png: cannot be read", "text.png: it is not an image", "empty.jpg: it is empty"] {
        assert!(text.contains(named), "{text}");
    }
    let decoded = folder.decode(&Decode { skip_broken: true, ..BY }, &|_| {}).unwrap();
    assert_eq!((decoded.broken.len(), decoded.dataset.train().len()), (3, 6));
    let unbroken = folder::scan(photos().path()).unwrap();
    assert_eq!(decoded.dataset.digests(), unbroken_digests(&unbroken).dataset.digests());
    for file in ["1.png", "2.png"] {
        fs::write(root.path().join("Zebra").join(file), "gone").unwrap();
    }
    let error = folder.decode(&Decode { skip_broken: true, ..BY }, &|_| {}).unwrap_err().to_string();
    assert!(error.ends_with("the class Zebra has no image left; all its files are broken"), "{error}");
}

fn unbroken_digests(_: &Folder) -> folder::Decoded {
    let root = photos();
    folder::scan(root.path()).unwrap().decode(&BY, &|_| {}).unwrap()
}

#[test]
fn images_are_the_same_for_any_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    for at in 0..40u8 {
        write(root.path(), &format!("class {}/{at}.jpg", at % 5), at * 6, ImageFormat::Jpeg);
    }
    let folder = folder::scan(root.path()).unwrap();
    let digests = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| folder.decode(&BY, &|_| {}).unwrap().dataset.digests().clone())
    };
    assert_eq!(digests(1), digests(4));
}

#[test]
fn a_share_is_held_out_of_every_class_and_the_data_set_trains() {
    let root = tempfile::tempdir().unwrap();
    for at in 0..20u8 {
        png(root.path(), &format!("{}/{at}.png", if at < 15 { "many" } else { "few" }), at);
    }
    png(root.path(), "one/1.png", 200);
    let folder = folder::scan(root.path()).unwrap().held_out(0.2);
    let of = |files: &[folder::Filed], label| files.iter().filter(|file| file.label == label).count();
    assert_eq!([0, 1, 2].map(|label| of(&folder.test, label)), [1, 3, 0]);
    assert_eq!([0, 1, 2].map(|label| of(&folder.train, label)), [4, 12, 1]);
    assert!(folder.test.iter().all(|file| !folder.train.contains(file)));
    assert_eq!(folder, folder::scan(root.path()).unwrap().held_out(0.2));
    let dataset = folder.decode(&BY, &|_| {}).unwrap().dataset;
    let order = ClassOrder::from_labels(vec![1, 0], 3).unwrap();
    let (train, test) = dataset.split(&order, 0, Evaluate::Test).unwrap();
    assert_eq!((train.samples(0..2).len(), test.len(2), train.image_dims()), (16, 4, [3, 8, 8]));
}

#[test]
fn a_file_alone_is_what_it_is_in_its_folder() {
    let root = photos();
    let folder = folder::scan(root.path()).unwrap();
    let dataset = folder.decode(&BY, &|_| {}).unwrap().dataset;
    for (at, file) in folder.train.iter().enumerate() {
        assert_eq!(decode_file(&file.path, &BY.fit).unwrap(), dataset.train().image(at));
    }
    let gone = root.path().join("gone.png");
    assert!(
        format!("{:#}", decode_file(&gone, &BY.fit).unwrap_err()).starts_with(&gone.display().to_string())
    );
    assert_eq!(folder::pictures(root.path()).unwrap().len(), 6);
}

#[test]
fn mean_and_deviation_are_measured() {
    let root = tempfile::tempdir().unwrap();
    png(root.path(), "a/1.png", 0);
    png(root.path(), "a/2.png", 255);
    let decoded = folder::scan(root.path()).unwrap().decode(&BY, &|_| {}).unwrap();
    let measured = Normalisation::measured(decoded.dataset.train());
    let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
    near(measured.mean[0], 0.5);
    near(measured.mean[2], 1.0);
    near(measured.deviation[0], 0.5);
    near(measured.deviation[1], 1.0 / 255.0);
    measured.check().unwrap();
}
