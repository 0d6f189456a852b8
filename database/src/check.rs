//! What `powerpole database check` finds wrong, and how each finding is mended.
