//! Which samples go together.

use cil_random::Draw;

use crate::store::SampleId;

/// All samples once, in an order drawn from `draw`, in groups of `batch`; the last may be smaller.
pub fn shuffled_batches(mut samples: Vec<SampleId>, batch: usize, draw: Draw<'_>) -> Vec<Vec<SampleId>> {
    // The order of the list that is passed in does not matter.
    samples.sort_unstable();
    draw.stream("order").shuffle(&mut samples);
    samples.chunks(batch.max(1)).map(<[SampleId]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_once_in_an_order_of_the_draw() {
        let samples: Vec<SampleId> = (0..10).map(SampleId::new).collect();
        let draw = Draw::new(1, "test");
        let batches = shuffled_batches(samples.clone(), 4, draw);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        let mut all = batches.concat();
        assert_ne!(all, samples);
        all.sort_unstable();
        assert_eq!(all, samples);
        let reversed = samples.iter().rev().copied().collect();
        assert_eq!(shuffled_batches(reversed, 4, draw), batches);
        assert_ne!(shuffled_batches(samples, 4, Draw { position: 1, ..draw }), batches);
    }
}
