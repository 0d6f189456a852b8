//! What a person's shell needs to use the stage's AWS: profiles, and `aws` with its plugin on PATH.

use crate::aws::people::access_key;
use anyhow::Context;
use std::{
    fmt::Write,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to write: config, credentials, env, env-<person>, bin/aws, bin/session-manager-plugin.
    #[arg(long)]
    dir: PathBuf,
    /// The stage's AWS endpoint as this machine reaches it.
    #[arg(long)]
    endpoint: String,
    /// The session gateway, host:port, as this machine reaches it.
    #[arg(long)]
    gateway: String,
    /// The real AWS CLI.
    #[arg(long, default_value = "aws")]
    aws: String,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// People who get a profile.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "alice,bob,carol,dave,mallory,auditor"
    )]
    people: Vec<String>,
}

/// Writes it all; what was there is replaced.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        endpoint,
        gateway,
        region,
        ..
    } = &args;
    let bin = args.dir.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
    let dir = fs::canonicalize(&args.dir).context("the folder's own path")?;
    let own = std::env::current_exe().context("own path")?;
    let mut config = String::new();
    let mut credentials = String::new();
    for person in &args.people {
        write!(
            config,
            "[profile {person}]\nregion = {region}\nendpoint_url = {endpoint}\noutput = json\ncli_pager =\n\n"
        )?;
        write!(
            credentials,
            "[{person}]\naws_access_key_id = {}\naws_secret_access_key = stage\n\n",
            access_key(person)
        )?;
        let env = format!(
            ". {}\nexport AWS_PROFILE={person}\n",
            quote(&dir.join("env"))
        );
        write_file(&dir.join(format!("env-{person}")), &env, 0o644)?;
    }
    write_file(&dir.join("config"), &config, 0o644)?;
    write_file(&dir.join("credentials"), &credentials, 0o600)?;
    let env = format!(
        "export PATH={}:\"$PATH\"\nexport AWS_CONFIG_FILE={}\nexport AWS_SHARED_CREDENTIALS_FILE={}\nexport AWS_EC2_METADATA_DISABLED=true\nexport AWS_PAGER=\nunset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN\n",
        quote(&dir.join("bin")),
        quote(&dir.join("config")),
        quote(&dir.join("credentials")),
    );
    write_file(&dir.join("env"), &env, 0o644)?;
    let aws = format!("#!/bin/sh\nexec {} \"$@\"\n", quote(Path::new(&args.aws)));
    write_file(&dir.join("bin/aws"), &aws, 0o755)?;
    let plugin = format!(
        "#!/bin/sh\nexport POWERPOLE_STAGE_SSM_GATEWAY_HOST=\"${{POWERPOLE_STAGE_SSM_GATEWAY_HOST:-{gateway}}}\"\nexec {} ssm plugin -- \"$@\"\n",
        quote(&own),
    );
    write_file(&dir.join("bin/session-manager-plugin"), &plugin, 0o755)?;
    Ok(ExitCode::SUCCESS)
}

fn write_file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
