//! Old images stay nearer to their own class than to new ones by a margin (LUCIR).

use candle_core::{Result, Tensor, bail};

use super::{Term, narrow};
use crate::loss::margin_ranking::margin_ranking_of_old;
use crate::recipe::Rows;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::MarginRanking`].
#[derive(Debug)]
pub(super) struct MarginRanking {
    pub(super) margin: f64,
    pub(super) negatives: usize,
    pub(super) rows: Rows,
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
