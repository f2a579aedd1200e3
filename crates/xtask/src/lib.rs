//! What hack/ runs: clusters up and down, images, checks.
