"""The paper's benchmarks: published questions in, answers of a compressed video out, accuracy with intervals."""
