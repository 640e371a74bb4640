//! The readable f32 reference executor.
