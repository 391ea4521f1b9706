// Losses of rows of logits with their gradients, and rows of length 1: f32 in row-major order, sums in f64.

// The largest of a row's values, and the sum of exp((value - largest) / temperature); a row that holds NaN has a NaN sum.
__device__ inline double exponentials(const float *row, int columns, double temperature, double *most) {
    __shared__ float largest[THREADS];
    int thread = threadIdx.x;
    float mine = row[0];
    for (int at = thread; at < columns; at += THREADS) mine = fmaxf(mine, row[at]);
    largest[thread] = mine;
    __syncthreads();
    for (int width = THREADS / 2; width > 0; width /= 2) {
        if (thread < width) largest[thread] = fmaxf(largest[thread], largest[thread + width]);
        __syncthreads();
    }
    *most = largest[0];
    __syncthreads();
    double sum = 0, nothing = 0;
    for (int at = thread; at < columns; at += THREADS) sum += exp((row[at] - *most) / temperature);
    total(&sum, &nothing);
    return sum;
}

// The sum of rows' weights, or their number.
__device__ inline double divisor_of(const float *weights, int rows) {
    double sum = 0, nothing = 0;
    if (!weights) return rows;
    for (int at = threadIdx.x; at < rows; at += THREADS) sum += weights[at];
    total(&sum, &nothing);
    return fmax(sum, (double)1.17549435e-38f);
}

// A row's part of the loss, which is its weight times minus the logarithm of the softmax at its column, over the divisor;
// and the gradient of the loss to the row. A block a row. `weights` may be absent (then all are 1). The divisor is their
// sum if `by_weights` is set, and the number of rows otherwise.
KERNEL(cross_entropy)(const float *logits, const unsigned *picked, const float *weights, float *grads, double *losses,
                      int rows, int columns, int by_weights) {
    int row = blockIdx.x;
    const float *own = logits + (long long)row * columns;
    float *grad = grads + (long long)row * columns;
    double most, sum = exponentials(own, columns, 1, &most);
    double factor = (weights ? weights[row] : 1) / divisor_of(by_weights ? weights : 0, rows);
    unsigned column = picked[row];
    for (int at = threadIdx.x; at < columns; at += THREADS)
        grad[at] = (float)(factor * (exp(own[at] - most) / sum - ((unsigned)at == column ? 1 : 0)));
    // A column that is not there has no probability: the loss is not a number, and training says so.
    double chosen = column < (unsigned)columns ? own[column] : nan("");
    if (threadIdx.x == 0) losses[row] = factor * (log(sum) + most - chosen);
}

// A row's divergence of softmax(student / temperature) from softmax(teacher / temperature), times the temperature's square
// over the number of rows, and its gradient to the student's row. A block a row.
KERNEL(divergence)(const float *students, const float *teachers, float *grads, double *losses, int rows, int columns,
                   double temperature) {
    int row = blockIdx.x;
    const float *student = students + (long long)row * columns, *teacher = teachers + (long long)row * columns;
    float *grad = grads + (long long)row * columns;
    double most, other_most, loss = 0, nothing = 0;
    double sum = log(exponentials(student, columns, temperature, &most));
    double other_sum = log(exponentials(teacher, columns, temperature, &other_most));
    for (int at = threadIdx.x; at < columns; at += THREADS) {
        double own = (student[at] - most) / temperature - sum, other = (teacher[at] - other_most) / temperature - other_sum;
        grad[at] = (float)(temperature / rows * (exp(own) - exp(other)));
        loss += exp(other) * (other - own);
    }
    total(&loss, &nothing);
    if (threadIdx.x == 0) losses[row] = temperature * temperature / rows * loss;
}

// The sum of what the rows gave. One block.
KERNEL(sum_of_losses)(const double *losses, int rows, float *loss) {
    double sum = 0, nothing = 0;
    for (int at = threadIdx.x; at < rows; at += THREADS) sum += losses[at];
    total(&sum, &nothing);
    if (threadIdx.x == 0) *loss = (float)sum;
}

// Rows divided by their length, the square root of the sum of squares and `floor`, and one over that. A block a row.
KERNEL(unit_rows)(const float *x, float *y, float *inverse, int columns, double floor) {
    const float *own = x + (long long)blockIdx.x * columns;
    double squares = 0, nothing = 0;
    for (int at = threadIdx.x; at < columns; at += THREADS) squares += (double)own[at] * own[at];
    total(&squares, &nothing);
    float by = (float)(1.0 / sqrt(squares + floor));
    for (int at = threadIdx.x; at < columns; at += THREADS) y[(long long)blockIdx.x * columns + at] = own[at] * by;
    if (threadIdx.x == 0) inverse[blockIdx.x] = by;
}

// The gradient behind unit_rows: across the row it is kept, along it there is none. A block a row.
KERNEL(unit_rows_backward)(const float *gradient, const float *y, const float *inverse, float *of_x, int columns) {
    long long begin = (long long)blockIdx.x * columns;
    double along = 0, nothing = 0;
    for (int at = threadIdx.x; at < columns; at += THREADS) along += (double)gradient[begin + at] * y[begin + at];
    total(&along, &nothing);
    for (int at = threadIdx.x; at < columns; at += THREADS)
        of_x[begin + at] = inverse[blockIdx.x] * (float)(gradient[begin + at] - along * y[begin + at]);
}
