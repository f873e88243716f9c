//! The built-in kinds whose typed structs describe themselves: group, version, plural and, for the tests that write the
//! files of types and schemas, JSON schema. Nothing is stored through these structs.

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v1 as autoscaling, autoscaling::v2 as autoscaling2,
    batch::v1 as batch, certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, networking::v1 as networking, node::v1 as node,
    policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource, SubResourceScope};
#[cfg(test)]
use schemars::{JsonSchema as Described, SchemaGenerator};

/// A kind compiled into the API.
pub struct BuiltIn {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    /// The full name of its schema, `io.k8s.api.core.v1.Pod`.
    #[cfg(test)]
    pub schema_name: fn() -> std::borrow::Cow<'static, str>,
    /// Adds its schema, and those it refers to, to the generator.
    #[cfg(test)]
    pub describe: fn(&mut SchemaGenerator),
}

trait Reach {
    const NAMESPACED: bool;
}

impl Reach for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

impl Reach for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl Reach for SubResourceScope {
    const NAMESPACED: bool = true;
}

/// Only tests ask the structs what they are.
#[cfg(not(test))]
trait Described {}

#[cfg(not(test))]
impl<T> Described for T {}

#[cfg(test)]
fn describe<T: Described>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

const fn built_in<T: Resource + Described>() -> BuiltIn
where
    T::Scope: Reach,
{
    BuiltIn {
        group: T::GROUP,
        version: T::VERSION,
        kind: T::KIND,
        plural: T::URL_PATH_SEGMENT,
        namespaced: <T::Scope as Reach>::NAMESPACED,
        #[cfg(test)]
        schema_name: T::schema_name,
        #[cfg(test)]
        describe: describe::<T>,
    }
}

/// Every kind of the list below.
pub static BUILT_INS: &[BuiltIn] = &[
    built_in::<core::Binding>(),
    built_in::<core::ConfigMap>(),
    built_in::<core::Endpoints>(),
    built_in::<core::Event>(),
    built_in::<core::LimitRange>(),
    built_in::<core::Namespace>(),
    built_in::<core::Node>(),
    built_in::<core::PersistentVolume>(),
    built_in::<core::PersistentVolumeClaim>(),
    built_in::<core::Pod>(),
    built_in::<core::PodTemplate>(),
    built_in::<core::ReplicationController>(),
    built_in::<core::ResourceQuota>(),
    built_in::<core::Secret>(),
    built_in::<core::Service>(),
    built_in::<core::ServiceAccount>(),
    built_in::<admission::MutatingWebhookConfiguration>(),
    built_in::<admission::ValidatingWebhookConfiguration>(),
    built_in::<apiextensions::CustomResourceDefinition>(),
    built_in::<apiregistration::APIService>(),
    built_in::<apps::ControllerRevision>(),
    built_in::<apps::DaemonSet>(),
    built_in::<apps::Deployment>(),
    built_in::<apps::ReplicaSet>(),
    built_in::<apps::StatefulSet>(),
    built_in::<authentication::TokenRequest>(),
    built_in::<authentication::TokenReview>(),
    built_in::<authorization::LocalSubjectAccessReview>(),
    built_in::<authorization::SelfSubjectAccessReview>(),
    built_in::<authorization::SelfSubjectRulesReview>(),
    built_in::<authorization::SubjectAccessReview>(),
    built_in::<autoscaling::HorizontalPodAutoscaler>(),
    built_in::<autoscaling::Scale>(),
    built_in::<autoscaling2::HorizontalPodAutoscaler>(),
    built_in::<batch::CronJob>(),
    built_in::<batch::Job>(),
    built_in::<certificates::CertificateSigningRequest>(),
    built_in::<coordination::Lease>(),
    built_in::<discovery::EndpointSlice>(),
    built_in::<events::Event>(),
    built_in::<networking::Ingress>(),
    built_in::<networking::IngressClass>(),
    built_in::<networking::NetworkPolicy>(),
    built_in::<node::RuntimeClass>(),
    built_in::<policy::Eviction>(),
    built_in::<policy::PodDisruptionBudget>(),
    built_in::<rbac::ClusterRole>(),
    built_in::<rbac::ClusterRoleBinding>(),
    built_in::<rbac::Role>(),
    built_in::<rbac::RoleBinding>(),
    built_in::<scheduling::PriorityClass>(),
    built_in::<storage::CSIDriver>(),
    built_in::<storage::CSINode>(),
    built_in::<storage::CSIStorageCapacity>(),
    built_in::<storage::StorageClass>(),
    built_in::<storage::VolumeAttachment>(),
];
