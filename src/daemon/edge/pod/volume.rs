//! A pod's volumes: fetched, written, mounted into containers. The worker calls `set_up` before the sandbox and again when
//! a source changed; `disk` has what is mounted below them. Content is never logged.

use super::atomic::{self, Entry, Payload};
use super::disk;
use super::env::{self, ConfigError};
use super::field::{self, Place};
use super::paths::{Paths, is_inside};
use super::quantity;
use super::sources::Sources;
use super::subpath;
use crate::cri::messages::{Mount, MountPropagation};
use crate::model::Kind;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Pod,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What was learnt while setting volumes up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Learnt {
    /// When the first token must be fetched anew.
    pub refresh_at: Option<Timestamp>,
}

const DEFAULT_MODE: u32 = 0o644;

/// For whom and from what volumes are made.
#[derive(Clone, Copy)]
struct Scene<'a> {
    pod: &'a Pod,
    place: &'a Place,
    sources: &'a dyn Sources,
}

impl<'a> Scene<'a> {
    fn namespace(&self) -> &'a str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// Makes all volumes of the pod ready, or says which one is not.
pub(super) async fn set_up(
    pod: &Pod,
    paths: &Paths,
    place: &Place,
    sources: &dyn Sources,
) -> Result<Learnt, ConfigError> {
    let mut learnt = Learnt::default();
    let spec = pod.spec.as_ref();
    let group = spec
        .and_then(|spec| spec.security_context.as_ref()?.fs_group)
        .and_then(|group| u32::try_from(group).ok());
    for volume in spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let scene = Scene { pod, place, sources };
        let outcome = one(scene, paths, volume, group, &mut learnt).await;
        outcome.map_err(|why| ConfigError(format!("volume \"{}\": {why}", volume.name)))?;
    }
    Ok(learnt)
}

async fn one(
    scene: Scene<'_>,
    paths: &Paths,
    volume: &Volume,
    group: Option<u32>,
    learnt: &mut Learnt,
) -> Result<(), ConfigError> {
    let Some(dir) = directory(scene.pod, paths, volume) else {
        return Err(ConfigError("this kind of volume is not supported".to_owned()));
    };
    if let Some(host) = volume.host_path.clone() {
        return blocking(move || host_path(&host)).await;
    }
    if let Some(empty) = volume.empty_dir.clone() {
        return blocking(move || empty_dir(&dir, &empty, group)).await;
    }
    let payload = payload(scene, volume, learnt).await?;
    let secret = volume.config_map.is_none();
    blocking(move || {
        if secret {
            disk::in_memory(&dir)?;
        }
        atomic::write(&dir, &payload, group).map(drop)
    })
    .await
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), ConfigError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ConfigError(error.to_string())),
        Err(error) => Err(ConfigError(error.to_string())),
    }
}

/// Where a volume is on this machine; `None` for kinds that are not known.
fn directory(pod: &Pod, paths: &Paths, volume: &Volume) -> Option<PathBuf> {
    if let Some(host) = &volume.host_path {
        return Some(PathBuf::from(&host.path));
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let plugin = match volume {
        v if v.config_map.is_some() => "configmap",
        v if v.secret.is_some() => "secret",
        v if v.empty_dir.is_some() => "empty-dir",
        v if v.projected.is_some() => "projected",
        v if v.downward_api.is_some() => "downward-api",
        _ => return None,
    };
    Some(paths.volume(uid, plugin, &volume.name))
}

/// Whether this pod's volumes hold something of the named ConfigMap or Secret.
pub(super) fn refers_to(pod: &Pod, kind: Kind, name: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut projections =
        volumes.clone().filter_map(|volume| volume.projected.as_ref()?.sources.as_ref()).flatten();
    let mut volumes = volumes;
    match kind {
        Kind::ConfigMap => {
            volumes.any(|volume| volume.config_map.as_ref().is_some_and(|source| source.name == name))
                || projections.any(|source| source.config_map.as_ref().is_some_and(|map| map.name == name))
        }
        Kind::Secret => {
            volumes.any(|v| v.secret.as_ref().is_some_and(|s| s.secret_name.as_deref() == Some(name)))
                || projections.any(|source| source.secret.as_ref().is_some_and(|secret| secret.name == name))
        }
        _ => false,
    }
}

async fn payload(scene: Scene<'_>, volume: &Volume, learnt: &mut Learnt) -> Result<Payload, ConfigError> {
    let Scene { pod, place, sources } = scene;
    let namespace = scene.namespace();
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let object = env::config_map(sources, namespace, &source.name, optional).await?;
        let mode = mode(source.default_mode);
        pick(&mut files, config_map_entries(object.as_ref()), source.items.as_deref(), mode, optional)?;
    } else if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let object = env::secret(sources, namespace, name, optional).await?;
        let mode = mode(source.default_mode);
        pick(&mut files, secret_entries(object.as_ref()), source.items.as_deref(), mode, optional)?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut files, pod, place, source.items.as_deref(), mode(source.default_mode))?;
    } else if let Some(source) = &volume.projected {
        let mode = mode(source.default_mode);
        for projection in source.sources.iter().flatten() {
            project(scene, &mut files, projection, mode, learnt).await?;
        }
    }
    Ok(files)
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).map_or(DEFAULT_MODE, |mode| mode & 0o777)
}

async fn project(
    scene: Scene<'_>,
    files: &mut Payload,
    projection: &VolumeProjection,
    mode: u32,
    learnt: &mut Learnt,
) -> Result<(), ConfigError> {
    let Scene { pod, place, sources } = scene;
    let namespace = scene.namespace();
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let object = env::config_map(sources, namespace, &source.name, optional).await?;
        pick(files, config_map_entries(object.as_ref()), source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        let object = env::secret(sources, namespace, &source.name, optional).await?;
        pick(files, secret_entries(object.as_ref()), source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.downward_api {
        downward(files, pod, place, source.items.as_deref(), mode)?;
    }
    if let Some(source) = &projection.service_account_token {
        token(scene, files, source, mode, learnt).await?;
    }
    Ok(())
}

async fn token(
    scene: Scene<'_>,
    files: &mut Payload,
    source: &ServiceAccountTokenProjection,
    mode: u32,
    learnt: &mut Learnt,
) -> Result<(), ConfigError> {
    let Scene { pod, sources, .. } = scene;
    let namespace = scene.namespace();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let audiences: Vec<&str> = source.audience.as_deref().into_iter().filter(|a| !a.is_empty()).collect();
    let seconds = source.expiration_seconds.unwrap_or(3600);
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": account, "namespace": namespace},
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod.metadata.name,
                "uid": pod.metadata.uid,
            },
        },
    });
    let answer = sources.token(namespace, account, request).await.map_err(|e| ConfigError(e.to_string()))?;
    let token = answer.pointer("/status/token").and_then(Value::as_str);
    let token = token.ok_or_else(|| ConfigError("the answer holds no token".to_owned()))?;
    add(files, &source.path, token.as_bytes().to_vec(), mode)?;
    let expires = answer
        .pointer("/status/expirationTimestamp")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(expires) = expires {
        // The last fifth of its life is for fetching the next one.
        let reserve = std::time::Duration::from_secs(u64::try_from(seconds / 5).unwrap_or(60));
        // Offline nothing better comes: look again in a minute at the earliest.
        let floor = crate::base::now().saturating_add(std::time::Duration::from_secs(60)).unwrap_or(expires);
        let refresh = expires.saturating_sub(reserve).unwrap_or(expires).max(floor);
        learnt.refresh_at = Some(learnt.refresh_at.map_or(refresh, |at| at.min(refresh)));
    }
    Ok(())
}

fn config_map_entries(object: Option<&Value>) -> Vec<(String, Vec<u8>)> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let field = |name: &str| object.and_then(|object| object.get(name)?.as_object()).into_iter().flatten();
    let texts =
        field("data").filter_map(|(key, value)| Some((key.clone(), value.as_str()?.as_bytes().to_vec())));
    let binary = field("binaryData")
        .filter_map(|(key, value)| Some((key.clone(), STANDARD.decode(value.as_str()?).ok()?)));
    texts.chain(binary).collect()
}

fn secret_entries(object: Option<&Value>) -> Vec<(String, Vec<u8>)> {
    let Some(object) = object else { return Vec::new() };
    let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
    data.filter_map(|(key, _)| Some((key.clone(), env::secret_bytes(object, key)?))).collect()
}

/// All entries, or the chosen ones under their chosen paths.
fn pick(
    files: &mut Payload,
    entries: Vec<(String, Vec<u8>)>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<(), ConfigError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return entries.into_iter().try_for_each(|(key, content)| add(files, &key, content, mode));
    };
    for item in items {
        let own = item.mode.map_or(mode, |own| self::mode(Some(own)));
        match entries.iter().find(|(key, _)| *key == item.key) {
            Some((_, content)) => add(files, &item.path, content.clone(), own)?,
            None if optional => {}
            None => return Err(ConfigError(format!("references non-existent key: {}", item.key))),
        }
    }
    Ok(())
}

fn downward(
    files: &mut Payload,
    pod: &Pod,
    place: &Place,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
) -> Result<(), ConfigError> {
    for item in items.unwrap_or_default() {
        let own = item.mode.map_or(mode, |own| self::mode(Some(own)));
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field::value(pod, place, &reference.field_path),
            (None, Some(reference)) => field::resource(pod, None, reference),
            (None, None) => None,
        };
        let value =
            value.ok_or_else(|| ConfigError(format!("nothing is known for the file {}", item.path)))?;
        add(files, &item.path, value.into_bytes(), own)?;
    }
    Ok(())
}

fn add(files: &mut Payload, path: &str, content: Vec<u8>, mode: u32) -> Result<(), ConfigError> {
    if !is_inside(path) || path.starts_with("..") {
        return Err(ConfigError(format!("the path {path:?} leaves the volume")));
    }
    files.insert(path.to_owned(), Entry { content, mode });
    Ok(())
}

/// Makes the directory once. Afterwards it is the application's: its owner, group and mode are never touched again.
fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    if source.medium.as_deref() == Some("Memory") {
        return empty_memory(dir, source, group);
    }
    if dir.exists() {
        return Ok(());
    }
    // Made beside its place and then moved there, so that no crash leaves one half made. No volume's name has dots.
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.with_file_name(format!("..{name}.new"));
    fs::create_dir_all(&fresh)?;
    if group.is_some() {
        std::os::unix::fs::chown(&fresh, None, group)?;
    }
    fs::set_permissions(&fresh, fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }))?;
    fs::rename(&fresh, dir)
}

/// Mode and group come with the mount: there is no moment in which it has others.
fn empty_memory(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    fs::create_dir_all(dir)?;
    if disk::is_mount_point(dir)? {
        return Ok(());
    }
    let mut options = group.map_or_else(|| "mode=0777".to_owned(), |group| format!("mode=2777,gid={group}"));
    let limit = source.size_limit.as_ref().and_then(|limit| quantity::whole(&limit.0));
    if let Some(size) = limit.filter(|size| *size > 0) {
        options.push_str(&format!(",size={size}"));
    }
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
    Ok(())
}

fn host_path(source: &HostPathVolumeSource) -> io::Result<()> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => return fs::create_dir_all(path),
        "FileOrCreate" if !path.exists() => {
            return fs::OpenOptions::new().create(true).append(true).open(path).map(drop);
        }
        "" => return Ok(()),
        _ => {}
    }
    let found = fs::metadata(path)?.file_type();
    let fits = match kind {
        "Directory" | "DirectoryOrCreate" => found.is_dir(),
        "File" | "FileOrCreate" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => false,
    };
    if fits { Ok(()) } else { Err(io::Error::other(format!("{} is not of type {kind}", source.path))) }
}

/// The mounts of one container. Blocking: looks at the file system.
pub(super) fn mounts(
    pod: &Pod,
    container: &Container,
    paths: &Paths,
    expand: &dyn Fn(&str) -> String,
) -> Result<Vec<Mount>, ConfigError> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == wanted.name);
        let dir = volume.and_then(|volume| directory(pod, paths, volume));
        let dir = dir.ok_or_else(|| ConfigError(format!("there is no volume \"{}\"", wanted.name)))?;
        let sub = match (&wanted.sub_path_expr, &wanted.sub_path) {
            (Some(text), _) => expand(text),
            (None, Some(text)) => text.clone(),
            (None, None) => String::new(),
        };
        let host = if sub.is_empty() { dir } else { subpath::inside(&dir, &sub)? };
        let propagation = match wanted.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        };
        mounts.push(Mount {
            container_path: wanted.mount_path.clone(),
            host_path: host.display().to_string(),
            readonly: wanted.read_only == Some(true),
            propagation: propagation as i32,
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_empty_dir_belongs_to_the_application_once_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let plain = EmptyDirVolumeSource::default();
        let data = dir.path().join("kubernetes.io~empty-dir/data");
        // What a crash has left behind is no obstacle, and nothing stays beside the volume.
        fs::create_dir_all(data.with_file_name("..data.new")).unwrap();
        empty_dir(&data, &plain, None).unwrap();
        assert_eq!(mode_of(&data), 0o777);
        assert_eq!(fs::read_dir(data.parent().unwrap()).unwrap().count(), 1);
        set_mode(&data, 0o700);
        empty_dir(&data, &plain, None).unwrap();
        assert_eq!(mode_of(&data), 0o700);

        let shared = data.with_file_name("shared");
        let group = rustix::process::getegid().as_raw();
        empty_dir(&shared, &plain, Some(group)).unwrap();
        assert_eq!(mode_of(&shared), 0o2777);
        set_mode(&shared, 0o750);
        empty_dir(&shared, &plain, Some(group)).unwrap();
        assert_eq!(mode_of(&shared), 0o750);
    }

    #[test]
    fn an_empty_dir_in_memory_is_made_once_too() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let memory = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..Default::default() };
        let data = dir.path().join("pod/data");
        if empty_dir(&data, &memory, Some(2000)).is_err() {
            // Not privileged; the tests that run pods are.
            return;
        }
        let made = (mode_of(&data), fs::metadata(&data).unwrap().gid());
        set_mode(&data, 0o700);
        let again = empty_dir(&data, &memory, Some(2000));
        let kept = mode_of(&data);
        disk::remove(&dir.path().join("pod")).unwrap();
        assert_eq!(made, (0o2777, 2000));
        again.unwrap();
        assert_eq!(kept, 0o700);
    }

    #[test]
    fn chosen_keys_go_to_their_paths_and_missing_ones_are_named() {
        let entries = || vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
        let item =
            |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: Some(0o400) };
        let mut files = Payload::new();
        pick(&mut files, entries(), Some(&[item("a", "x/y")]), 0o644, false).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(files["x/y"].mode, 0o400);
        let missing = pick(&mut files, entries(), Some(&[item("c", "z")]), 0o644, false).unwrap_err();
        assert_eq!(missing.to_string(), "references non-existent key: c");
        assert!(pick(&mut files, entries(), Some(&[item("a", "../z")]), 0o644, false).is_err());
    }

    #[test]
    fn pods_know_what_they_refer_to() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "a", "configMap": {"name": "cm"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "s"}}]}},
        ]}}))
        .unwrap();
        assert!(refers_to(&pod, Kind::ConfigMap, "cm") && refers_to(&pod, Kind::Secret, "s"));
        assert!(!refers_to(&pod, Kind::ConfigMap, "s"));
    }
}
