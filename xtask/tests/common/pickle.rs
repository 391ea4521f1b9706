//! Pickles as Python 2 with numpy wrote the published ones.

const GLOBALS: &[u8] =
    b"cnumpy.core.multiarray\n_reconstruct\nq\x10cnumpy\nndarray\nq\x11K\x00\x85U\x01b\x87Rq\x12";
const DTYPE: &[u8] =
    b"cnumpy\ndtype\nq\x13U\x02u1K\x00K\x01\x87Rq\x14(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb";

/// A member with images: file names, batch label, both lists of labels, and the array.
///
/// `fortran` stores the array by columns, as numpy may.
pub(crate) fn batch(images: &[(u8, u8, Vec<u8>)], fortran: bool) -> Vec<u8> {
    let mut bytes = b"\x80\x02}q\x01(U\x09filenamesq\x02]q\x03(".to_vec();
    for (index, _) in images.iter().enumerate() {
        string(&mut bytes, &format!("image_s_{index:06}.png"));
    }
    bytes.extend(b"eU\x0bbatch_labelq\x04U\x15training batch 1 of 1q\x05U\x0bfine_labelsq\x06]q\x07(");
    bytes.extend(images.iter().flat_map(|(_, fine, _)| [b'K', *fine]));
    bytes.extend(b"eU\x0dcoarse_labelsq\x08]q\x09(");
    bytes.extend(images.iter().flat_map(|(coarse, _, _)| [b'K', *coarse]));
    bytes.extend(b"eU\x04dataq\x0a");
    bytes.extend(GLOBALS);
    bytes.extend(b"(K\x01");
    bytes.extend([b'K', images.len() as u8, b'M', 0x00, 0x0c, 0x86]);
    bytes.extend(DTYPE);
    bytes.push(if fortran { 0x88 } else { 0x89 });
    let width = images.first().map_or(0, |image| image.2.len());
    bytes.push(b'T');
    bytes.extend(((images.len() * width) as u32).to_le_bytes());
    if fortran {
        bytes.extend((0..width).flat_map(|column| images.iter().map(move |image| image.2[column])));
    } else {
        bytes.extend(images.iter().flat_map(|image| image.2.iter().copied()));
    }
    bytes.extend(b"tbu.");
    bytes
}

/// The member with class names.
pub(crate) fn meta(classes: &[&str]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}q\x01(U\x10fine_label_namesq\x02]q\x03(".to_vec();
    for class in classes {
        string(&mut bytes, class);
    }
    bytes.extend(b"eU\x12coarse_label_namesq\x04]q\x05U\x05fruitq\x06au.");
    bytes
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend([b'U', text.len() as u8]);
    bytes.extend(text.as_bytes());
}
