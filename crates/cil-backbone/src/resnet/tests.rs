//! Sizes, taps and complaints of the networks.

use cil_engine::ParameterKind;

use super::*;

const IMAGES: Shape = Shape::Map { channels: 3, height: 32, width: 32 };

fn weights(architecture: Architecture) -> usize {
    let specs = architecture.graph(IMAGES).unwrap().parameter_specs();
    let weights = specs.iter().filter(|spec| spec.kind == ParameterKind::Weight);
    weights.map(|spec| spec.dims.iter().product::<usize>()).sum()
}

#[test]
fn sizes_are_the_published_ones() {
    // He et al. 2016: 0.46 M with parameter-free shortcuts and a linear head of 10 classes (650).
    assert_eq!(weights(Architecture::podnet(32)), 464_154 - 650);
    for variant in [Variant::He, Variant::Icarl] {
        assert_eq!(weights(Architecture::small(variant, 32)), 464_154 - 650);
    }
    let relu = Architecture::small(Variant::LucirRelu, 32);
    assert_eq!(weights(relu), weights(Architecture::lucir(32)));
    // LUCIR's adds two 1x1 convolutions and their batch norms.
    assert_eq!(weights(Architecture::lucir(32)), 464_154 - 650 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64);
    // torchvision's resnet18 has 11,689,512 with its head of 1000 classes.
    assert_eq!(weights(Architecture::imagenet()), 11_689_512 - (512 * 1000 + 1000));
    assert_eq!(
        weights(Architecture::imagenet_small()),
        weights(Architecture::imagenet()) - 64 * 3 * (49 - 9)
    );
    // The same network as PODNet's in all that has weights; torchvision's own counts, without 1000 classes' head.
    let of = |variant, depth, width| weights(Architecture { variant, depth, width });
    assert_eq!(of(Variant::He, 32, 16), 464_154 - 650);
    let torchvision = |depth| of(Variant::Torchvision, depth, 64);
    assert_eq!(torchvision(18), 11_689_512 - (512 * 1000 + 1000));
    assert_eq!(torchvision(34), 21_797_672 - (512 * 1000 + 1000));
    assert_eq!(torchvision(50), 25_557_032 - (2048 * 1000 + 1000));
    assert_eq!(torchvision(101), 44_549_160 - (2048 * 1000 + 1000));
    assert_eq!(torchvision(152), 60_192_808 - (2048 * 1000 + 1000));
    let norms = |it: Architecture| it.graph(IMAGES).unwrap().batch_norms().len();
    assert_eq!((norms(Architecture::lucir(32)), norms(Architecture::podnet(32))), (33, 31));
}

#[test]
fn taps_are_the_stages_before_any_closing_relu() {
    let taps = |it: Architecture| -> Vec<(String, String, Shape)> {
        let graph = it.graph(IMAGES).unwrap();
        let tap = |(name, id): &(String, NodeId)| {
            (name.clone(), graph.node(*id).name.clone(), graph.node(*id).shape)
        };
        graph.taps().iter().map(tap).collect()
    };
    let map = |channels, side| Shape::Map { channels, height: side, width: side };
    let entry = |tap: &str, node: &str, shape| (tap.to_owned(), node.to_owned(), shape);
    assert_eq!(
        taps(Architecture::lucir(14)),
        [
            entry("stage1", "stage1.block1.add", map(16, 32)),
            entry("stage2", "stage2.block1.add", map(32, 16)),
            entry("stage3", "stage3.block1.add", map(64, 8)),
            entry(POOLED, "pool", Shape::Vector { width: 64 }),
        ]
    );
    let input_of_pool = |variant| {
        let graph = Architecture::small(variant, 14).graph(IMAGES).unwrap();
        graph.node(graph.nodes().last().unwrap().inputs[0]).name.clone()
    };
    assert_eq!(input_of_pool(Variant::Lucir), "stage3.block1.add");
    assert_eq!(input_of_pool(Variant::Icarl), "stage3.block1.add");
    assert_eq!(input_of_pool(Variant::LucirRelu), "stage3.block1.relu2");
    assert_eq!(input_of_pool(Variant::He), "stage3.block1.relu2");
    let podnet = taps(Architecture::podnet(32));
    assert_eq!(podnet[2], entry("stage3", "stage3.block3.add", map(64, 8)));
    assert_eq!(podnet[3], entry("stage4", "stage4.block0.add", map(64, 8)));
    assert_eq!(taps(Architecture::podnet(8)).len(), 5);
}

#[test]
fn four_stages_fit_images_of_every_usual_size() {
    let map = |channels, side| Shape::Map { channels, height: side, width: side };
    // By side of the images: of the stages.
    let forms = [
        (Architecture::imagenet(), 224, [56, 28, 14, 7]),
        (Architecture::imagenet(), 84, [21, 11, 6, 3]),
        (Architecture::imagenet(), 64, [16, 8, 4, 2]),
        (Architecture::imagenet_small(), 64, [64, 32, 16, 8]),
        (Architecture::imagenet_small(), 32, [32, 16, 8, 4]),
    ];
    for (architecture, side, stages) in forms {
        let graph = architecture.graph(map(3, side)).unwrap();
        assert_eq!((architecture.stages(), architecture.feature_width()), (4, 512));
        for (stage, side) in stages.into_iter().enumerate() {
            let (name, id) = &graph.taps()[stage];
            assert_eq!(name, &format!("stage{}", stage + 1));
            assert_eq!(graph.node(*id).name, format!("{name}.block1.add"));
            assert_eq!(graph.node(*id).shape, map(64 << stage, side));
        }
        assert_eq!(graph.tap_shape(POOLED), Some(Shape::Vector { width: 512 }));
        // No ReLU after the last block.
        let pool = graph.nodes().last().unwrap();
        assert_eq!(graph.node(pool.inputs[0]).name, "stage4.block1.add");
    }
    for (architecture, stages) in [(Architecture::lucir(8), 3), (Architecture::podnet(8), 4)] {
        assert_eq!(
            (architecture.stages(), architecture.graph(IMAGES).unwrap().taps().len()),
            (stages, stages + 1)
        );
    }
}

#[test]
fn names_of_configurations_stay() {
    for (variant, name) in [
        (Variant::Lucir, "\"lucir\""),
        (Variant::Podnet, "\"podnet\""),
        (Variant::LucirRelu, "\"lucir-relu\""),
        (Variant::He, "\"he\""),
        (Variant::Icarl, "\"icarl\""),
        (Variant::Imagenet, "\"imagenet\""),
        (Variant::ImagenetSmall, "\"imagenet-small\""),
    ] {
        assert_eq!(serde_json::to_string(&variant).unwrap(), name);
    }
}

#[test]
fn wrong_forms_are_named() {
    let refused = |architecture: Architecture, images, part: &str| {
        let message = architecture.graph(images).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(Architecture::lucir(18), IMAGES, "architecture.depth is 18");
    let imagenet = Architecture { depth: 34, ..Architecture::imagenet() };
    refused(imagenet, IMAGES, "architecture.depth is 34; the ResNet for ImageNet has 18 layers");
    let wide = Architecture { width: 2000, ..Architecture::imagenet_small() };
    refused(wide, IMAGES, "architecture.width is 2000; use a value from 1 to 1024; published runs have 64");
    refused(Architecture { width: 0, ..Architecture::lucir(8) }, IMAGES, "architecture.width is 0");
    refused(Architecture::lucir(6_000_002), IMAGES, "architecture.depth is 6000002");
    refused(Architecture { width: 1025, ..Architecture::lucir(8) }, IMAGES, "architecture.width is 1025");
    let map = |channels, height, width| Shape::Map { channels, height, width };
    for images in [Shape::Vector { width: 3 }, map(3, 3, 32), map(3, 32, 3), map(0, 32, 32)] {
        refused(Architecture::lucir(8), images, "4x4 to");
    }
    for images in [map(usize::MAX, 32, 32), map(3, usize::MAX, 32), map(3, 32, usize::MAX)] {
        refused(Architecture::podnet(8), images, "4x4 to");
    }
}
