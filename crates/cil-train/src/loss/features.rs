//! Distillation of the old model's pooled features.

use std::f64::consts::FRAC_1_SQRT_2;

use candle_core::{D, DType, Result, Tensor, bail};
use candle_nn::ops::softmax;

use super::{absolute, filled_dims2};

/// Added to each squared norm under a cosine; PyTorch's `CosineEmbeddingLoss`.
const SQUARED_NORM_FLOOR: f64 = 1e-12;

/// Added to each squared norm before a root that may be of zero; the square of `F.normalize`'s floor.
const SQUARED_DISTANCE_FLOOR: f64 = 1e-24;

/// Mean over rows of `1 - cos(student, old)`. From 0 (same direction) to 2 (opposite); blind to length.
///
/// `student`, `old`: `[rows, features]`; `old` is of the frozen old model and detached. LUCIR's less-forget
/// constraint (Hou et al. 2019, eq. 7; weight there `5 · sqrt(old / new classes)` on CIFAR-100), and POD-flat.
pub fn less_forget(student: &Tensor, old: &Tensor) -> Result<Tensor> {
    check_same_rows(student, old)?;
    let old = old.detach();
    let squared_norm = |it: &Tensor| it.sqr()?.sum(D::Minus1)? + SQUARED_NORM_FLOOR;
    let norms = (squared_norm(student)? * squared_norm(&old)?)?.sqrt()?;
    let cosine = ((student * old)?.sum(D::Minus1)? / norms)?;
    cosine.mean_all()?.affine(-1.0, 1.0)
}

/// Mean over rows and old classes of `(head(student) - head(old))²`, `head` being the frozen old model's linear head.
/// Never negative; zero when the features agree in every direction of the old head's weights.
///
/// `student`, `old`: `[rows, features]`; `head`: `[M, features]`, its weight (a bias drops out). `old` and `head` are
/// detached. ABD (Smith et al. 2021): sum of squares over the classes, mean over rows, divided by `M`; weight 0.1.
pub fn old_head_feature_kd(student: &Tensor, old: &Tensor, head: &Tensor) -> Result<Tensor> {
    check_same_rows(student, old)?;
    let (_, n_features) = filled_dims2(head, "the old head")?;
    if n_features != student.dim(1)? {
        bail!("the old head is {:?}, the features {:?}", head.dims(), student.dims())
    }
    (student - old.detach())?.matmul(&head.detach().t()?)?.sqr()?.mean_all()
}

/// Learned linear maps into the space where angles are compared; they train with the student.
#[derive(Clone, Copy, Debug)]
pub struct Projections<'a> {
    /// `[projected, student features]`. A bias would drop out.
    pub student: &'a Tensor,
    /// `[projected, old features]`. Gets a gradient, though the features it projects do not.
    pub old: &'a Tensor,
}

/// Mean over all triples of rows `(i, j, k)` of `|cos ∠student - cos ∠old|`, the angle at `i` between `j` and `k`.
/// From 0 to 2; zero when both feature clouds have the same shape. Triples that are not distinct count as zero.
///
/// `student`: `[rows, features]`; `old`: `[rows, any]`, of the frozen old model, detached; takes memory for `rows³`
/// numbers. Relational distillation by angles (Park et al. 2019) as R-DFCIL uses it, on real new images, in a
/// projected space of twice the feature count, with L1 for the distance.
pub fn angle_relation(
    student: &Tensor,
    old: &Tensor,
    projections: Option<Projections<'_>>,
) -> Result<Tensor> {
    let (n_rows, _) = filled_dims2(student, "features")?;
    if old.dims2()?.0 != n_rows {
        bail!("the old model's features are {:?}, the student's {:?}", old.dims(), student.dims())
    }
    let (student, old) = match projections {
        Some(it) => (student.matmul(&it.student.t()?)?, old.detach().matmul(&it.old.t()?)?),
        None => (student.clone(), old.detach()),
    };
    absolute(&(angles(&student)? - angles(&old)?)?)?.mean_all()
}

/// Cosines of the angle at each row between each two others: `[rows, rows, rows]`.
fn angles(rows: &Tensor) -> Result<Tensor> {
    let differences = rows.unsqueeze(0)?.broadcast_sub(&rows.unsqueeze(1)?)?;
    let norms = (differences.sqr()?.sum_keepdim(D::Minus1)? + SQUARED_DISTANCE_FLOOR)?.sqrt()?;
    let directions = differences.broadcast_div(&norms)?;
    directions.matmul(&directions.transpose(1, 2)?.contiguous()?)
}

/// A learned network of one hidden layer with GELU; it trains with the student.
#[derive(Clone, Copy, Debug)]
pub struct Projector<'a> {
    /// Weight `[outputs, inputs]` and bias `[outputs]` of both layers.
    pub layers: [(&'a Tensor, &'a Tensor); 2],
}

/// Mean over rows and features of `(projector(student) - old)²`.
///
/// `student`, `old`: `[rows, features]`; `old` is of the frozen old model and detached. Projected distillation as in
/// AdaGauss's code (grypesc/AdaGauss at 0543a12, `ada_gauss.py`; Rypesc et al. 2024).
pub fn projected_kd(student: &Tensor, old: &Tensor, projector: &Projector<'_>) -> Result<Tensor> {
    check_same_rows(student, old)?;
    let linear =
        |rows: &Tensor, (weight, bias): (&Tensor, &Tensor)| rows.matmul(&weight.t()?)?.broadcast_add(bias);
    let hidden = linear(student, projector.layers[0])?;
    // GELU with the error function: candle's own has a gradient of six decimals.
    let hidden = ((&hidden * 0.5)? * ((&hidden * FRAC_1_SQRT_2)?.erf()? + 1.0)?)?;
    (linear(&hidden, projector.layers[1])? - old.detach())?.sqr()?.mean_all()
}

/// Least pivot of the factor in [`anti_collapse`]: rounding may leave one below 0.
const LEAST_PIVOT: f64 = 1e-12;

/// Minus the mean over features of `min(L_ii, limit)`, where `L Lᵀ` is the covariance of the rows (with one degree of
/// freedom less). From `-limit` to 0.
///
/// `features`: `[rows, features]`, more rows than features, since the covariance is singular otherwise. The factor is
/// computed column by column in the tensors' own type, where they are. `loss_ac` of AdaGauss's code
/// (grypesc/AdaGauss at 0543a12; Rypesc et al. 2024).
pub fn anti_collapse(features: &Tensor, limit: f64) -> Result<Tensor> {
    let (rows, width) = filled_dims2(features, "features")?;
    if rows <= width {
        bail!(
            "{rows} rows of {width} features have a singular covariance; use a batch of more rows than features"
        )
    }
    let centred = features.broadcast_sub(&features.mean_keepdim(0)?)?;
    let mut left = (centred.t()?.matmul(&centred)? / (rows - 1) as f64)?;
    let mut diagonal = Vec::with_capacity(width);
    for at in 0..width {
        let pivot = left.narrow(0, 0, 1)?.narrow(1, 0, 1)?.maximum(LEAST_PIVOT)?;
        diagonal.push(pivot.sqrt()?.flatten_all()?);
        let below = width - at - 1;
        if below > 0 {
            let column = left.narrow(0, 1, below)?.narrow(1, 0, 1)?.contiguous()?;
            let row = left.narrow(0, 0, 1)?.narrow(1, 1, below)?.contiguous()?;
            let rest = left.narrow(0, 1, below)?.narrow(1, 1, below)?;
            left = (rest - column.matmul(&row)?.broadcast_div(&pivot)?)?;
        }
    }
    Tensor::cat(&diagonal, 0)?.minimum(limit)?.mean_all()?.neg()
}

/// The empirical feature matrix of a linear head, `[features, features]`: `Wᵀ (mean of diag(p) - p pᵀ) W`, where `p` is
/// a row's softmax. It says how much each direction of the features matters to the head's answers: it is the mean over
/// rows, and over classes by their probability, of the squared gradient of the logarithm of the class's probability.
///
/// `logits`: `[rows, classes]`; `head`: `[classes, features]`, its weight. No gradient passes; f64 inside. EFC's closed
/// form (simomagi/elastic_feature_consolidation at b61997c, `empirical_feature_matrix.py`; Magistri et al. 2024).
pub fn feature_matrix(logits: &Tensor, head: &Tensor) -> Result<Tensor> {
    let (rows, classes) = filled_dims2(logits, "logits")?;
    if head.dims2()?.0 != classes {
        bail!("the head is {:?}, the logits are {:?}", head.dims(), logits.dims())
    }
    let shares = softmax(&logits.detach().to_dtype(DType::F64)?, D::Minus1)?;
    let head64 = head.detach().to_dtype(DType::F64)?;
    let mean = (shares.sum(0)? / rows as f64)?;
    let weighted = head64.broadcast_mul(&mean.unsqueeze(1)?)?;
    let squares = (shares.t()?.contiguous()?.matmul(&shares)? / rows as f64)?;
    let found = head64.t()?.contiguous()?.matmul(&(weighted - squares.matmul(&head64)?)?)?;
    found.to_dtype(head.dtype())
}

/// Mean over rows of `d (lambda matrix + damping) dᵀ`, `d` being how far a row of `student` is from `old`. Never
/// negative where the matrix is an empirical feature matrix.
///
/// `student`, `old`: `[rows, features]`; `old` is of the frozen old model and detached; `matrix`: `[features,
/// features]`, of [`feature_matrix`]. EFC's feature consolidation (Magistri et al. 2024; lambda 10, damping 0.1).
pub fn elastic(
    student: &Tensor,
    old: &Tensor,
    matrix: &Tensor,
    (lambda, damping): (f64, f64),
) -> Result<Tensor> {
    check_same_rows(student, old)?;
    let width = student.dim(1)?;
    if matrix.dims() != [width, width] {
        bail!("the feature matrix is {:?}, the features {:?}", matrix.dims(), student.dims())
    }
    let apart = (student - old.detach())?;
    let pulled = ((apart.matmul(&matrix.detach())? * lambda)? + (&apart * damping)?)?;
    (apart * pulled)?.sum(D::Minus1)?.mean_all()
}

fn check_same_rows(student: &Tensor, old: &Tensor) -> Result<()> {
    filled_dims2(student, "features")?;
    if student.dims() != old.dims() {
        bail!("the old model's features are {:?}, the student's {:?}", old.dims(), student.dims())
    }
    Ok(())
}
