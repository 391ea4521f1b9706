//! Averages over cells of stages, as `cil_backbone::cells` has them, in ONNX.

use anyhow::{Result, bail};
use cil_engine::{Graph, Shape};

use super::Writer;
use super::proto::Attribute;

impl Writer<'_> {
    /// The features that a head of several stages reads, from the maps of the graph's taps; their name.
    ///
    /// # Errors
    /// If a stage's map is not cut into equal cells, which ONNX's average pooling needs.
    pub(super) fn cells(&mut self, graph: &Graph, maps: &[String]) -> Result<String> {
        let mut parts = Vec::new();
        for it in &self.snapshot.head.stages {
            let tap = it.tap();
            let Some(at) = graph.taps().iter().position(|(name, _)| *name == tap) else {
                bail!("the network has no {tap}")
            };
            let Shape::Map { height, width, .. } = graph.node(graph.taps()[at].1).shape else {
                bail!("{tap} is no map")
            };
            if height % it.cells != 0 || width % it.cells != 0 {
                bail!(
                    "the head reads {0}x{0} cells of {tap}, whose {height}x{width} pixels are not cut into equal ones; use \
                     cells that divide them",
                    it.cells
                );
            }
            let part = |what: &str| format!("head.{tap}.{what}");
            let (positive, averages, flat) = (part("relu"), part("averages"), part("flat"));
            self.node("Relu", &positive, &[&maps[at]], Vec::new());
            let kernel = [height / it.cells, width / it.cells];
            let attributes =
                vec![Attribute::ints("kernel_shape", &kernel), Attribute::ints("strides", &kernel)];
            self.node("AveragePool", &averages, &[&positive], attributes);
            self.node("Flatten", &flat, &[&averages], vec![Attribute::int("axis", 1)]);
            parts.push(if it.normalised { self.directions_of(&flat, &format!("head.{tap}")) } else { flat });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Concat", "head.read", &parts, vec![Attribute::int("axis", 1)]);
        Ok("head.read".to_owned())
    }
}
