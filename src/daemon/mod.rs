//! Everything that runs for long: the cloud wing, the edge wing, the embedded Kubernetes API.
//! `cmd` starts them; they never print, only log.

pub mod apiserver;
pub mod cloud;
pub mod edge;
pub mod mapper;
pub mod status;
pub mod upgrade;

#[cfg(test)]
mod credentials;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod joint;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod road;
#[cfg(test)]
mod road_catalogue;
#[cfg(test)]
mod road_rules;
