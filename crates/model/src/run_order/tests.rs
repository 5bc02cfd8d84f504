use clap::Parser;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    order: RunOrder,
}

fn parse(argv: Vec<OsString>) -> Result<RunOrder, clap::Error> {
    Line::try_parse_from(std::iter::once("run".into()).chain(argv)).map(|line| line.order)
}

fn word() -> impl Strategy<Value = String> {
    "[-=a-zA-Z0-9 $'\"/.]{0,11}[a-z/]"
}

fn path() -> impl Strategy<Value = PathBuf> {
    word().prop_map(PathBuf::from)
}

prop_compose! {
    fn test_order()(
        tests in prop::collection::vec(word(), 1..4),
        kernel in word(), commit in prop::option::of(word()), tests_dir in prop::option::of(path()),
        out in path(), tolerate in prop::collection::vec(word(), 0..3), merge in prop::collection::vec(path(), 0..3),
        arch in prop::option::of(prop::sample::select(Arch::ALL.to_vec())),
        image in prop::option::of(prop_oneof![Just("standard".into()), Just("full".into()), word()]),
        packages in prop::collection::vec("[a-z][a-z0-9+.-]{1,8}", 0..3),
        env in prop::collection::vec("[A-Z]{1,4}=[a-z0-9-]{0,5}", 0..3),
        repos in prop::collection::vec("[a-c][a-z]{1,3},format=(apt|pacman),url=https://[a-z/.]{1,9}x", 0..2),
        trust_domain in prop::option::of("user/[a-z]{1,5}"), verify_builds in 0..100_u32, network in any::<bool>(),
        suites in prop::collection::vec("[a-z]{1,4}=[0-9a-f]{40}@[-a-z/]{1,6}", 0..2),
    ) -> TestOrder {
        let image = image.map(|text: String| RootImage::from(OsString::from(text)));
        let packages = packages.iter().map(|name| name.parse().unwrap()).collect();
        let env = env.iter().map(|pair| pair.parse().unwrap()).collect();
        let kernel_repos = repos.iter().map(|repo| repo.parse().unwrap()).collect();
        let trust_domain = trust_domain.map(|name| name.parse().unwrap());
        let suites = suites.iter().map(|suite| suite.parse().unwrap()).collect();
        TestOrder {
            tests, kernel, kernel_repos, commit, tests_dir, out, tolerate, merge, arch, image, packages, env, network,
            trust_domain, verify_builds, suites,
        }
    }
}

prop_compose! {
    /// Mutually exclusive options are never both set.
    fn run_order()(
        test in test_order(), deps_dir in prop::option::of(path()),
        accel in prop::sample::select(vec![AccelChoice::Auto, AccelChoice::Kvm, AccelChoice::Tcg]),
        jobs in prop::option::of(0..100_usize), rounds in prop::option::of(0..100_u32),
        sizes in (0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40), junit in prop::option::of(path()),
        flags in any::<[bool; 10]>(),
        make_arg in prop::collection::vec(word(), 0..3), priority in prop::option::of(0..9_u32),
    ) -> RunOrder {
        let [failfast, interactive, success, no_sandbox, events, json, log, ask, dry_run, verbose] = flags;
        let interactive = interactive && !events;
        RunOrder {
            test, deps_dir, accel, jobs, failfast, interactive,
            exit_on_success: success && interactive,
            rounds: rounds.filter(|_| !events && !interactive),
            keep_devices: ByteSize(sizes.0), max_output: ByteSize(sizes.1), keep_core: ByteSize(sizes.2), no_sandbox, events,
            make_arg, priority, verbose,
            json: json && !events, junit, log_events: log && events, ask_kernel: ask && events, dry_run,
        }
    }
}

proptest! {
    #[test]
    fn a_printed_order_parses_to_itself(order in run_order()) {
        let argv = order.to_argv();
        prop_assert_eq!(parse(argv.clone()).map_err(|error| error.to_string()), Ok(order), "{:?}", argv);
    }
}

#[test]
fn a_reproduction_is_complete() {
    let words = "--events --image /i.ext4 --accel tcg -k x --commit abc --arch arm64 --env A=b --merge m.ktest \
                 --tolerate RUST --deps-dir /d a.ktest one two";
    let order = parse(words.split_whitespace().map(OsString::from).collect()).unwrap();
    let again = order.reproduction("/t/a.ktest".as_ref(), &"two".parse().unwrap(), "/linux".into());
    let argv: Vec<_> = again.to_argv().into_iter().map(|word| word.into_string().unwrap()).collect();
    assert_eq!(
        argv.join(" "),
        "--deps-dir /d --accel tcg -k /linux --commit abc --tolerate RUST --arch aarch64 --image /i.ext4 \
         --env A=b /t/a.ktest two"
    );
}

/// An image that ktest makes exists on every machine, a file does not.
#[test]
fn a_reproduction_elsewhere_has_no_paths() {
    for (given, kept) in [("full", Some("full")), ("/i.ext4", None)] {
        let words = ["--image", given, "-k", "debian/trixie", "a.ktest"];
        let order = parse(words.map(OsString::from).into()).unwrap();
        let again = order.reproduction_elsewhere("a.ktest".as_ref(), &"one".parse().unwrap());
        assert_eq!(again.test.image.as_ref().map(RootImage::as_os_str), kept.map(OsStr::new));
    }
}

#[test]
fn contradicting_options_are_refused() {
    for words in ["-I --events a", "--json --events a", "--log-events a", "-S a", "--env x a"] {
        assert!(parse(words.split_whitespace().map(OsString::from).collect()).is_err(), "{words}");
    }
}
