//! Names of profiles as they are typed.

use crate::cli::error::CliResult;
use crate::model::profile::ProfileName;

/// Which profiles a new container uses.
#[derive(clap::Args)]
pub struct ProfilesArgs {
    /// Use PROFILE; may be repeated, and what a later one sets counts [default: default]
    #[arg(short = 'p', long = "profile", value_name = "PROFILE", value_delimiter = ',')]
    profile: Vec<String>,
    /// Use no profile
    #[arg(long, conflicts_with = "profile")]
    no_profiles: bool,
}

impl ProfilesArgs {
    /// None: those that new containers use.
    pub fn names(&self) -> CliResult<Option<Vec<ProfileName>>> {
        let named = self.no_profiles || !self.profile.is_empty();
        named.then(|| self.profile.iter().map(|name| profile(name)).collect()).transpose()
    }
}

pub fn profile(text: &str) -> CliResult<ProfileName> {
    Ok(ProfileName::new(text)?)
}

/// Names with commas; an empty text is none.
pub fn parse(text: &str) -> CliResult<Vec<ProfileName>> {
    text.split(',').filter(|_| !text.is_empty()).map(profile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_with_commas() {
        let names =
            |text: &str| parse(text).map(|all| all.iter().map(ProfileName::to_string).collect::<Vec<_>>());
        assert_eq!(names("default,gold").unwrap(), ["default", "gold"]);
        assert!(names("").unwrap().is_empty());
        assert!(names("a,,b").is_err() && names("a, b").is_err());
    }
}
