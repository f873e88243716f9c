//! Values with meaning, no I/O: names, object keys, revisions, digests, device twins, custom resources.
//! Every room above the wire speaks in these; KubeEdge's spellings of them stand in `wire`.

mod data;
pub mod digest;
pub mod image;
mod key;
mod label;
pub mod machine;
mod quantity;
mod release;
pub mod resources;
mod status;
pub mod twin;

pub use data::{DATA_LIMIT, data_size};
pub use image::ImageRef;
pub use key::{DeviceId, Kind, NodeName, ObjectKey, Revision};
pub use label::{check_label, parse_label};
pub use quantity::Quantity;
pub use release::Release;
pub use status::Status;
