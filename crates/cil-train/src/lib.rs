//! Recipes, terms, the one training loop, memory and metrics.
