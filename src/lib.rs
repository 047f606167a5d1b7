//! nagaya: long-lived full-OS containers, rootless. Layers, topmost first; a layer uses only
//! those below it: `cli`, `app`, `template`, `runtime`, `store`, `host`, `sys`,
//! `render`, `model`.

pub mod app;
pub mod cli;
pub mod host;
pub mod model;
pub mod render;
pub mod runtime;
pub mod store;
pub mod sys;
pub mod template;
