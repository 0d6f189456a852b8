//! A machine's root: an overlay over the image's root, made so that it boots as that instance and no other.

use super::HostError;
use super::ec2::Instance;
use super::machine::{Machine, MachineRecord};
use crate::hub::{HubError, Stage, unmount_below};
use nix::mount::{MsFlags, mount};
use sha2::{Digest, Sha256};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The roots that an image stands for, out of images.json: `{"ami-1": "/a/root", "ami-2": ["/upper", "/a/root"]}`.
pub(crate) fn roots_of(stage: &Stage, image: &str) -> Result<Vec<PathBuf>, HostError> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Roots {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    let path = stage.images();
    let text = std::fs::read(&path).map_err(HubError::file("read", &path))?;
    let images: std::collections::BTreeMap<String, Roots> = serde_json::from_slice(&text)
        .map_err(|error| HubError::file("parse", &path)(error.into()))?;
    match images.into_iter().find(|(id, _)| id == image) {
        Some((_, Roots::One(root))) => Ok(vec![root]),
        Some((_, Roots::Many(roots))) if !roots.is_empty() => Ok(roots),
        _ => Err(HostError::NoImage {
            image: image.to_owned(),
        }),
    }
}

/// Mounts the machine's root. One that is mounted already (a machine stopped, or whose keeper was killed) is used as it is.
pub(crate) fn mount_root(machine: &Machine, record: &MachineRecord) -> Result<PathBuf, HostError> {
    let root = machine.path("root");
    let (upper, work) = (machine.path("upper"), machine.path("work"));
    let fresh = !upper.exists();
    for folder in [&root, &upper, &work] {
        std::fs::create_dir_all(folder).map_err(HubError::file("create", folder))?;
    }
    unmount_below(&root)?;
    if fresh {
        personalise(&upper, &record.ec2)?;
    }
    for path in &record.lower {
        path.metadata()
            .map_err(HubError::file("find the image's root", path))?;
    }
    let lower: Vec<String> = record.lower.iter().map(|path| escape(path)).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        escape(&upper),
        escape(&work)
    );
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .map_err(|error| HubError::file("mount an overlay on", &root)(error.into()))?;
    Ok(root)
}

/// Unmounts and removes the root; console and journal stay.
pub(crate) fn remove_root(machine: &Machine) -> Result<(), HubError> {
    unmount_below(machine.dir())?;
    let journal = machine.path("upper/var/log/journal");
    let kept = machine.path("journal");
    if journal.exists() && !kept.exists() {
        std::fs::rename(&journal, &kept).map_err(HubError::file("keep", &journal))?;
    }
    // nspawn's own folder for the machine stays when nspawn is killed, and where /run is no tmpfs.
    let _ =
        std::fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(machine.id.as_str()));
    for name in ["root", "upper", "work"] {
        let folder = machine.path(name);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(HubError::file("remove", &folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The name that EC2 gives an instance with this address.
pub(crate) fn host_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}")
}

/// systemd's machine id, always the same for one instance.
pub(crate) fn machine_id(instance: &str) -> String {
    let hash = Sha256::digest(instance.as_bytes());
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn personalise(upper: &Path, ec2: &Instance) -> Result<(), HostError> {
    let name = ec2
        .address
        .map(host_name)
        .unwrap_or_else(|| ec2.id.to_string());
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {name}.ec2.internal {name}\n",
        ec2.address.unwrap_or(Ipv4Addr::LOCALHOST)
    );
    let files = [
        ("etc/hostname", format!("{name}\n")),
        ("etc/hosts", hosts),
        (
            "etc/machine-id",
            format!("{}\n", machine_id(ec2.id.as_str())),
        ),
    ];
    for (path, text) in files {
        let path = upper.join(path);
        make_parent(&path)?;
        std::fs::write(&path, text).map_err(HubError::file("write", &path))?;
    }
    // With this folder journald keeps its journal on disk, where it outlives the machine, unless the image says otherwise.
    let journal = upper.join("var/log/journal");
    Ok(std::fs::create_dir_all(&journal).map_err(HubError::file("create", &journal))?)
}

fn make_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(parent).map_err(HubError::file("create", parent))
}

/// overlayfs splits its options at commas and its lower roots at colons.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if matches!(character, '\\' | ',' | ':') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_32_digits_and_differs_between_instances() {
        let id = machine_id("i-0123456789abcdef0");
        assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(id, machine_id("i-0123456789abcdef1"));
    }

    #[test]
    fn an_image_may_stand_for_one_root_or_for_a_stack_of_them_and_an_unknown_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::open("t".parse().unwrap(), dir.path()).unwrap();
        std::fs::write(
            stage.images(),
            r#"{"ami-1": "/a", "ami-2": ["/b", "/a"], "ami-3": []}"#,
        )
        .unwrap();
        assert_eq!(roots_of(&stage, "ami-1").unwrap(), [PathBuf::from("/a")]);
        assert_eq!(
            roots_of(&stage, "ami-2").unwrap(),
            [PathBuf::from("/b"), PathBuf::from("/a")]
        );
        for unknown in ["ami-3", "ami-4"] {
            assert_eq!(roots_of(&stage, unknown).unwrap_err().code(), "no-image");
        }
    }
}
