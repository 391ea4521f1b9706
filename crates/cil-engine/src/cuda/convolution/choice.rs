//! Which of cuDNN's algorithms computes a product.
//!
//! The choice is the first deterministic algorithm in cuDNN's ranking that runs; cuDNN may still refuse an entry when
//! its workspace is queried or when it is first called, and then the next one is tried.

use std::mem::MaybeUninit;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;

use super::Described;
use crate::cuda::Precision;

/// Bytes that an algorithm may work in.
const WORKSPACE: usize = 1 << 30;
/// Algorithms that cuDNN can be asked for at once; there are at most eight.
const ASKED: usize = 8;

/// Algorithms of one product of one geometry with their bytes of workspace, the one in use first.
pub(super) struct Choice<A> {
    left: Vec<(A, usize)>,
    /// Whether the first one was executed.
    proven: bool,
}

impl<A: Algorithm> Choice<A> {
    /// Those that cuDNN offers, in its order. In [`Precision::Exact`] sums over the window come first: FFT and Winograd
    /// are reproducible too, but round otherwise than what they are compared with.
    pub(super) fn new(
        handle: sys::cudnnHandle_t,
        of: Described,
        precision: Precision,
    ) -> std::result::Result<Self, String> {
        let offered = A::offered(handle, of).map_err(|error| format!("{error:?}"))?;
        let left = ranked(offered, precision == Precision::Exact);
        if left.is_empty() {
            return Err("none of its algorithms gives the same bits every time in 1 GiB of workspace".into());
        }
        Ok(Self { left, proven: false })
    }

    /// The algorithm in use, and its bytes of workspace.
    pub(super) fn first(&self) -> (A, usize) {
        self.left[0]
    }

    /// Computes by the first algorithm that cuDNN executes; `refused` counts those that it does not.
    pub(super) fn compute(
        &mut self,
        refused: &mut usize,
        mut by: impl FnMut(A, usize) -> Result<std::result::Result<(), CudnnError>>,
    ) -> Result<std::result::Result<(), CudnnError>> {
        loop {
            let (algorithm, bytes) = self.first();
            match by(algorithm, bytes)? {
                Ok(()) => {
                    self.proven = true;
                    return Ok(Ok(()));
                }
                Err(error) if !self.proven && self.left.len() > 1 && is_unavailable(error) => {
                    self.left.remove(0);
                    *refused += 1;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Computes by the first algorithm that cuDNN executes so, where all may refuse: none is given up for that.
    pub(super) fn compute_if_any(
        &mut self,
        refused: &mut usize,
        mut by: impl FnMut(A, usize) -> Result<std::result::Result<(), CudnnError>>,
    ) -> Result<std::result::Result<(), CudnnError>> {
        let tried = if self.proven { 1 } else { self.left.len() };
        let mut first = None;
        for at in 0..tried {
            let (algorithm, bytes) = self.left[at];
            match by(algorithm, bytes)? {
                Ok(()) => {
                    self.left.drain(..at);
                    (self.proven, *refused) = (true, *refused + at);
                    return Ok(Ok(()));
                }
                Err(error) if is_unavailable(error) => first = first.or(Some(error)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(first.map_or(Ok(()), Err))
    }
}

/// The same order, or with direct sums before all else.
fn ranked<A: Algorithm>(mut offered: Vec<(A, usize)>, direct_first: bool) -> Vec<(A, usize)> {
    if direct_first {
        offered.sort_by_key(|(algorithm, _)| !algorithm.is_direct());
    }
    offered
}

/// Whether cuDNN says that it cannot, and not that it tried and failed.
pub(super) fn is_unavailable(error: CudnnError) -> bool {
    // There are many such codes, others in each release, with names that begin alike.
    let name = format!("{:?}", error.0);
    name.starts_with("CUDNN_STATUS_NOT_SUPPORTED") || name.starts_with("CUDNN_STATUS_BAD_PARAM")
}

/// An algorithm of one of the three products.
pub(super) trait Algorithm: Copy {
    /// Those that give the same bits every time in a bounded workspace, with that workspace's bytes, in cuDNN's order.
    fn offered(
        handle: sys::cudnnHandle_t,
        of: Described,
    ) -> std::result::Result<Vec<(Self, usize)>, CudnnError>;

    /// Whether it adds the products of the window's values as they are.
    fn is_direct(self) -> bool;
}

macro_rules! algorithm {
    ($algorithm:ident, $found:ident, $offered:ident, $workspace:ident, ($($argument:ident),*), $direct:pat) => {
        impl Algorithm for sys::$algorithm {
            fn offered(
                handle: sys::cudnnHandle_t,
                of: Described,
            ) -> std::result::Result<Vec<(Self, usize)>, CudnnError> {
                let mut found = [MaybeUninit::<sys::$found>::uninit(); ASKED];
                let mut count = 0;
                // SAFETY: the descriptors live, and there is room for `ASKED` entries, of which the first `count` are
                // written.
                let found = unsafe {
                    let to = found.as_mut_ptr().cast();
                    result::$offered(handle, $(of.$argument),*, ASKED as i32, &raw mut count, to)?;
                    let count = usize::try_from(count).unwrap_or(0).min(ASKED);
                    std::slice::from_raw_parts(found.as_ptr().cast::<sys::$found>(), count)
                };
                let suits = |it: &&sys::$found| {
                    it.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && it.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && it.memory <= WORKSPACE
                };
                // SAFETY: the descriptors live. An algorithm without a workspace size is not offered.
                let sized = |it: &sys::$found| unsafe {
                    let bytes = result::$workspace(handle, $(of.$argument),*, it.algo).ok()?;
                    (bytes <= WORKSPACE).then_some((it.algo, bytes))
                };
                Ok(found.iter().filter(suits).filter_map(sized).collect())
            }

            fn is_direct(self) -> bool {
                use sys::$algorithm::*;
                matches!(self, $direct)
            }
        }
    };
}

algorithm!(
    cudnnConvolutionFwdAlgo_t,
    cudnnConvolutionFwdAlgoPerf_t,
    get_convolution_forward_algorithm,
    get_convolution_forward_workspace_size,
    (x, weight, convolution, y),
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM | CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM
);
algorithm!(
    cudnnConvolutionBwdDataAlgo_t,
    cudnnConvolutionBwdDataAlgoPerf_t,
    get_convolution_backward_data_algorithm,
    get_convolution_backward_data_workspace_size,
    (weight, y, convolution, x),
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_1
);
algorithm!(
    cudnnConvolutionBwdFilterAlgo_t,
    cudnnConvolutionBwdFilterAlgoPerf_t,
    get_convolution_backward_filter_algorithm,
    get_convolution_backward_filter_workspace_size,
    (x, y, convolution, weight),
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
);

#[cfg(test)]
mod tests {
    use super::*;
    use sys::cudnnConvolutionFwdAlgo_t as Forward;

    #[test]
    fn direct_sums_come_first_where_rounding_is_compared() {
        let offered = vec![
            (Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, 1),
            (Forward::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, 2),
            (Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT, 3),
            (Forward::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, 4),
        ];
        let order = |direct| ranked(offered.clone(), direct).into_iter().map(|(_, bytes)| bytes);
        assert_eq!(order(true).collect::<Vec<_>>(), [2, 4, 1, 3]);
        assert_eq!(order(false).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn the_next_algorithm_serves_where_the_first_is_refused_at_its_first_call() {
        let refusal = CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);
        let failure = CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_EXECUTION_FAILED);
        let fresh = || Choice {
            left: vec![
                (Forward::CUDNN_CONVOLUTION_FWD_ALGO_FFT, 1),
                (Forward::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, 2),
            ],
            proven: false,
        };
        let (mut choice, mut refused) = (fresh(), 0);
        let by_second = |_, bytes| Ok(if bytes == 1 { Err(refusal) } else { Ok(()) });
        assert!(choice.compute(&mut refused, by_second).is_ok_and(|done| done.is_ok()));
        assert_eq!((choice.first().1, refused), (2, 1));
        // An algorithm that ran once is kept, and so is one that failed.
        assert!(choice.compute(&mut refused, |_, _| Ok(Err(refusal))).is_ok_and(|done| done.is_err()));
        let mut choice = fresh();
        assert!(choice.compute(&mut refused, |_, _| Ok(Err(failure))).is_ok_and(|done| done.is_err()));
        assert_eq!((choice.first().1, refused), (1, 1));
        // The last one's refusal is the error.
        assert!(choice.compute(&mut refused, |_, _| Ok(Err(refusal))).is_ok_and(|done| done.is_err()));
        assert_eq!((choice.first().1, refused), (2, 2));
        // Where all may refuse, what all of them refuse says nothing of any.
        let (mut choice, mut refused) = (fresh(), 0);
        assert!(choice.compute_if_any(&mut refused, |_, _| Ok(Err(refusal))).is_ok_and(|done| done.is_err()));
        assert_eq!((choice.first().1, refused), (1, 0));
        assert!(choice.compute_if_any(&mut refused, by_second).is_ok_and(|done| done.is_ok()));
        assert_eq!((choice.first().1, refused), (2, 1));
        assert!(choice.compute_if_any(&mut refused, |_, _| Ok(Err(refusal))).is_ok_and(|done| done.is_err()));
        assert_eq!((choice.first().1, refused), (2, 1));
    }
}
