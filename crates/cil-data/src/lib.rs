//! Datasets, class orders, tasks, batches, augmentation and exemplars.
