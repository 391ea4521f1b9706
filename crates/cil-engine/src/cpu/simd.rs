//! A vector of sixteen `f32` and its three forms: one AVX-512 register, two AVX2 registers, or a plain array.
//!
//! Kernels are generic over [`Lanes`] and `#[inline(always)]`; [`dispatched`] compiles each once per instruction set
//! and calls the one that the executor's [`InstructionPath`] names.

use super::InstructionPath;

/// Sixteen `f32` lanes.
///
/// # Safety
/// Every method may only be called where the CPU has the type's instructions; pointers must be valid for sixteen
/// values.
pub(super) trait Lanes: Copy {
    /// Whether there are 32 registers of 16 lanes; else 16 registers of 8.
    const WIDE: bool;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * factor + term`
    unsafe fn fma(self, factor: Self, term: Self) -> Self;
    /// `max(self, 0)`; NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// `yes` where `self > 0`, else `no`.
    unsafe fn positive(self, yes: Self, no: Self) -> Self;
}

/// The form every CPU has.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, with: impl Fn(f32, f32) -> f32) -> Self {
        let mut lanes = self.0;
        for (lane, value) in lanes.iter_mut().zip(other.0) {
            *lane = with(*lane, value);
        }
        Self(lanes)
    }
}

// SAFETY (all unsafe blocks of this impl): the trait's contract makes the pointers valid for sixteen values.
impl Lanes for Portable {
    const WIDE: bool = false;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        self.zip(factor, |a, b| a * b).zip(term, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        self.zip(self, |a, _| if a < 0.0 { 0.0 } else { a })
    }
    #[inline(always)]
    unsafe fn positive(self, yes: Self, no: Self) -> Self {
        let mut lanes = no.0;
        for ((lane, mask), value) in lanes.iter_mut().zip(self.0).zip(yes.0) {
            *lane = if mask > 0.0 { value } else { *lane };
        }
        Self(lanes)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// Two registers of eight lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    // SAFETY (all unsafe blocks of this impl): the trait's contract provides AVX2 and FMA and valid pointers.
    impl Lanes for Avx2 {
        const WIDE: bool = false;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            let half = unsafe { _mm256_set1_ps(value) };
            Self(half, half)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, term: Self) -> Self {
            unsafe {
                Self(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1))
            }
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // The second operand is the answer if either is NaN.
            unsafe {
                let zero = _mm256_setzero_ps();
                Self(_mm256_max_ps(zero, self.0), _mm256_max_ps(zero, self.1))
            }
        }
        #[inline(always)]
        unsafe fn positive(self, yes: Self, no: Self) -> Self {
            unsafe {
                let zero = _mm256_setzero_ps();
                let low = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, zero);
                let high = _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, zero);
                Self(_mm256_blendv_ps(no.0, yes.0, low), _mm256_blendv_ps(no.1, yes.1, high))
            }
        }
    }

    /// One register of sixteen lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY (all unsafe blocks of this impl): the trait's contract provides AVX-512F and valid pointers.
    impl Lanes for Avx512 {
        const WIDE: bool = true;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // The second operand is the answer if either is NaN.
            Self(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
        }
        #[inline(always)]
        unsafe fn positive(self, yes: Self, no: Self) -> Self {
            unsafe {
                let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_setzero_ps());
                Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
            }
        }
    }
}

/// Whether this CPU has a path's instructions.
pub(super) fn available(path: InstructionPath) -> bool {
    match path {
        #[cfg(target_arch = "x86_64")]
        InstructionPath::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
        #[cfg(target_arch = "x86_64")]
        InstructionPath::Avx2 => {
            std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        }
        #[cfg(not(target_arch = "x86_64"))]
        InstructionPath::Avx512 | InstructionPath::Avx2 => false,
        InstructionPath::Portable => true,
    }
}

/// Defines a function that runs a generic kernel with the instructions of its first argument, a [`Cpu`].
macro_rules! dispatched {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) = $kernel:ident) => {
        $(#[$doc])*
        #[expect(clippy::allow_attributes, reason = "not every kernel has many arguments")]
        #[allow(clippy::too_many_arguments, reason = "kernels take their geometry as numbers")]
        pub(super) fn $name(cpu: crate::cpu::simd::Cpu, $($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments, reason = "kernels take their geometry as numbers")]
            fn avx512($($arg: $kind),*) {
                // SAFETY: this function is compiled for, and only called on, CPUs with AVX-512F.
                unsafe { $kernel::<crate::cpu::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "kernels take their geometry as numbers")]
            fn avx2($($arg: $kind),*) {
                // SAFETY: this function is compiled for, and only called on, CPUs with AVX2 and FMA.
                unsafe { $kernel::<crate::cpu::simd::Avx2>($($arg),*) }
            }
            match cpu.path() {
                // SAFETY: a `Cpu` exists only for instructions that were detected.
                #[cfg(target_arch = "x86_64")]
                crate::cpu::InstructionPath::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::cpu::InstructionPath::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: plain arrays need no special instructions.
                _ => unsafe { $kernel::<crate::cpu::simd::Portable>($($arg),*) },
            }
        }
    };
}
pub(super) use dispatched;

/// Proof that the CPU has a path's instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu(InstructionPath);

impl Cpu {
    /// The proof, if this CPU has them.
    pub(super) fn new(path: InstructionPath) -> Option<Self> {
        available(path).then_some(Self(path))
    }

    /// The best path of this CPU.
    pub(super) fn best() -> Self {
        let paths = [InstructionPath::Avx512, InstructionPath::Avx2];
        paths.into_iter().find_map(Self::new).unwrap_or(Self(InstructionPath::Portable))
    }

    /// The path.
    pub(super) fn path(self) -> InstructionPath {
        self.0
    }
}
