//! Old images stay nearer to their own class than to new ones by a margin (LUCIR).

use candle_core::{Result, Tensor, bail};
use cil_backbone::HeadKind;
use cil_engine::Graph;
use cil_engine::bounds::within;
use serde::{Deserialize, Serialize};

use super::{Settings, Term, defaults, narrow};
use crate::loss::margin_ranking::margin_ranking_of_old;
use crate::step::{Rows, Step};

/// Margin between an old image's own class and the nearest new ones (LUCIR); cosine head only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MarginRanking {
    /// Weight in the objective; 1 in LUCIR.
    pub weight: f64,
    /// Margin between cosines; 0.5 in LUCIR.
    pub margin: f64,
    /// How many new classes are pushed away; 2 in LUCIR.
    pub negatives: usize,
    /// Rows with old images; `old` where it is not written. Generated ones are pushed too far: `exemplars` beside
    /// replay.
    #[serde(default = "defaults::old", skip_serializing_if = "defaults::is_old")]
    pub rows: Rows,
}

impl Settings for MarginRanking {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        vec![self.rows]
    }

    fn check(&self, head: HeadKind) -> anyhow::Result<()> {
        if head != HeadKind::Cosine {
            anyhow::bail!("margin-ranking compares cosines, so set head to \"cosine\"")
        }
        if matches!(self.rows, Rows::New | Rows::Real | Rows::All) {
            anyhow::bail!(
                "margin-ranking is of old images; set rows to \"old\", \"exemplars\" or \"synthetic\""
            )
        }
        Ok(within("margin", self.margin, -2.0, 2.0)?)
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(self.clone()))
    }
}

impl Term for MarginRanking {
    fn name(&self) -> &'static str {
        "margin-ranking"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let rows = step.rows(self.rows);
        if step.old_classes == 0 || rows.is_empty() {
            return Ok(None);
        }
        let Some(similarities) = &step.student.similarities else {
            bail!("the margin ranking loss compares cosines: it needs a cosine head");
        };
        let cosines = narrow(similarities, &rows)?;
        margin_ranking_of_old(&cosines, &step.labels(&rows)?, step.old_classes, self.margin, self.negatives)
    }
}
