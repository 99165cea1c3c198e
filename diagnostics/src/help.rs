//! Help texts: `-h` fits on one screen, `--help` tells everything.

use clap::{Arg, Command};

/// Shows environment variables in `--help` alone. clap shows them in `-h` as well, where few flags
/// would then fit on one line.
pub fn env_in_long_help_only(command: Command) -> Command {
    command.mut_args(move_env).mut_subcommands(env_in_long_help_only)
}

fn move_env(arg: Arg) -> Arg {
    let Some(variable) = arg.get_env().filter(|_| !arg.is_hide_env_set()) else { return arg };
    let value = std::env::var_os(variable).filter(|_| !arg.is_hide_env_values_set());
    let value = value.unwrap_or_default();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let variable = variable.to_string_lossy();
    let text = format!("{help}\n\n[env: {variable}={}]", value.to_string_lossy());
    arg.hide_env(true).long_help(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_variable_is_shown_by_the_long_help_alone() {
        let arg = Arg::new("n").long("n").env("HELP_TEST_N").help("How many.");
        let sub = Command::new("sub").arg(arg.clone());
        let mut command = env_in_long_help_only(Command::new("x").arg(arg).subcommand(sub));
        let sub = command.find_subcommand("sub").unwrap().clone();
        for command in [&mut command, &mut sub.clone()] {
            let short = command.render_help().to_string();
            assert!(short.contains("How many.") && !short.contains("HELP_TEST_N"), "{short}");
            let long = command.render_long_help().to_string();
            assert!(long.contains("How many.") && long.contains("[env: HELP_TEST_N=]"), "{long}");
        }
    }
}
