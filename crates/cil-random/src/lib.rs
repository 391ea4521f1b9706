//! Random streams that are functions of seed, purpose and position.
//!
//! A stream depends on its purpose and its position, and on nothing that ran before it. So a resumed run draws what an
//! uninterrupted one would have drawn, a new draw changes no other, and the number of threads does not matter.
//! Everything is drawn on the host: the numbers are the same on every device.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Which random numbers are meant; equal draws yield equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// The purpose of the numbers; different purposes share no numbers.
    pub purpose: &'a str,
    /// Index of the task.
    pub task: usize,
    /// Epoch, iteration, or any other count within the task.
    pub position: u64,
}

impl<'a> Draw<'a> {
    /// The first draw of a purpose.
    pub fn new(seed: u64, purpose: &'a str) -> Self {
        Self { seed, purpose, task: 0, position: 0 }
    }

    /// The stream of one part of the draw, such as `noise` or a parameter's name.
    pub fn stream(&self, part: &str) -> Stream {
        self.seeded(part, 0)
    }

    /// The stream of one element of the draw, such as a sample.
    pub fn stream_of(&self, element: u64) -> Stream {
        self.seeded("element", element)
    }

    /// The stream of one part of one element, such as where a sample is cropped.
    pub fn stream_in(&self, part: &str, element: u64) -> Stream {
        self.seeded(part, element)
    }

    fn seeded(&self, part: &str, element: u64) -> Stream {
        let mut digest = Sha256::new();
        for text in [self.purpose, part] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
        for number in [self.seed, self.task as u64, self.position, element] {
            digest.update(number.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(digest.finalize().into()))
    }
}

/// Numbers in order; made by [`Draw::stream`].
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

/// Words of the generator that a normal number takes: two numbers of 64 bits.
const WORDS_OF_NORMAL: u128 = 4;
/// Normal numbers that one thread draws at a time; some 70 microseconds.
const NORMALS: usize = 2048;

impl Stream {
    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[from, to)`.
    pub fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// The next `count` standard normal numbers, rounded to `f32`: those that [`Self::normal`] draws one after the
    /// other, drawn in parallel.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let start = self.0.get_word_pos();
        let mut numbers = vec![0f32; count];
        numbers.par_chunks_mut(NORMALS).enumerate().for_each(|(chunk, numbers)| {
            let mut own = self.clone();
            own.0.set_word_pos(start + WORDS_OF_NORMAL * (chunk * NORMALS) as u128);
            numbers.iter_mut().for_each(|number| *number = own.normal() as f32);
        });
        self.0.set_word_pos(start + WORDS_OF_NORMAL * count as u128);
        numbers
    }

    /// Uniform below `n`, 0 if `n` is 0; the bias of `n` parts in 2^64 is of no account here.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Any number, each as likely as the other: the seed of something further down.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Puts `items` in a random order, each as likely as the other (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw<'static> = Draw { seed: 1, purpose: "test", task: 2, position: 3 };

    fn numbers(draw: Draw<'_>, part: &str) -> Vec<f64> {
        let mut stream = draw.stream(part);
        (0..2000).map(|_| stream.normal()).collect()
    }

    #[test]
    fn every_part_of_a_draw_counts() {
        assert_eq!(numbers(DRAW, "a"), numbers(DRAW, "a"));
        let others = [
            Draw { seed: 2, ..DRAW },
            Draw { purpose: "tess", ..DRAW },
            Draw { task: 3, ..DRAW },
            Draw { position: 4, ..DRAW },
            Draw { purpose: "testa", ..DRAW },
        ];
        assert!(others.iter().all(|other| numbers(*other, "a") != numbers(DRAW, "a")));
        assert_ne!(numbers(DRAW, "a"), numbers(DRAW, "b"));
        assert_ne!(DRAW.stream_of(0).unit().to_bits(), DRAW.stream_of(1).unit().to_bits());
        assert_ne!(DRAW.stream_of(0).unit().to_bits(), DRAW.stream("a").unit().to_bits());
    }

    /// Numbers before and after them, and every length around a chunk's, are those of one draw after the other.
    #[test]
    fn normals_in_parallel_are_those_one_after_the_other() {
        for before in [0usize, 1, 3, 7, 8, 9, 31, 500] {
            for count in [0usize, 1, 2, 15, NORMALS - 1, NORMALS, NORMALS + 1, 5 * NORMALS + 77] {
                let (mut together, mut single) = (DRAW.stream("normals"), DRAW.stream("normals"));
                for _ in 0..before {
                    assert_eq!(together.number(), single.number());
                }
                let expected: Vec<u32> = (0..count).map(|_| (single.normal() as f32).to_bits()).collect();
                let found: Vec<u32> = together.normals(count).into_iter().map(f32::to_bits).collect();
                assert_eq!(found, expected, "{before} before, {count}");
                assert_eq!(together.number(), single.number(), "{before} before, {count}: what comes next");
                assert_eq!(together.normals(3), (0..3).map(|_| single.normal() as f32).collect::<Vec<_>>());
            }
        }
    }

    /// Pinned: a change here changes every run that was ever recorded.
    #[test]
    fn the_stream_is_the_one_that_runs_were_recorded_with() {
        let mut stream = DRAW.stream("pinned");
        let first: Vec<usize> = (0..8).map(|_| stream.below(1000)).collect();
        assert_eq!(first, PINNED);
    }

    const PINNED: [usize; 8] = [536, 257, 815, 60, 849, 832, 700, 654];

    #[test]
    fn numbers_are_distributed_as_they_should() {
        let drawn = numbers(DRAW, "a");
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.06 && (variance - 1.0).abs() < 0.1, "mean {mean}, variance {variance}");
        let mut stream = DRAW.stream("labels");
        let mut counts = [0; 4];
        (0..4000).for_each(|_| counts[stream.below(4)] += 1);
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert!((0..100).all(|_| (2.0..5.0).contains(&stream.between(2.0, 5.0))));
    }

    #[test]
    fn a_shuffle_keeps_all_and_favours_no_place() {
        let mut first = [0; 5];
        for position in 0..2000 {
            let mut items = [0, 1, 2, 3, 4];
            Draw { position, ..DRAW }.stream("order").shuffle(&mut items);
            first[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4]);
        }
        assert!(first.iter().all(|count| (340..460).contains(count)), "{first:?}");
    }
}
