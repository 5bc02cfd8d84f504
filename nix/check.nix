# Evaluate module.nix and the outputs of flake.nix without nixpkgs: `nix-instantiate --store dummy:// --eval --strict nix/check.nix`
# prints true, or fails at an undefined name. `lib` and `pkgs` are stubs with only the names used here. How NixOS evaluates the
# options is not checked.
let
  settings = { user = "ci"; };
  lib = {
    mkEnableOption = description: { inherit description; default = false; };
    mkOption = option: option;
    mkIf = condition: content: if condition then content else { };
    mkMerge = contents: contents;
    types = { package = "package"; str = "str"; listOf = type: "list of ${type}"; };
    genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
  };
  packages = [
    "bash" "bc" "binutils" "bison" "bubblewrap" "ccache" "coreutils" "cpio" "e2fsprogs" "elfutils" "fakeroot" "flex" "gawk" "gcc"
    "git" "gnugrep" "gnumake" "gnused" "kmod" "mmdebstrap" "openssh" "openssl" "perl" "qemu_kvm" "util-linux" "xz" "zstd"
  ];
  pkgs = lib.genAttrs packages (name: "/nix/store/${name}") // {
    formats.toml = { }: { type = "toml"; generate = name: value: builtins.deepSeq value "/nix/store/${name}"; };
    rustPlatform.buildRustPackage = package: package // { src = builtins.typeOf package.src; };
    stdenv.hostPlatform.system = "x86_64-linux";
  };
  module = cfg: import ./module.nix {
    inherit lib pkgs;
    config.services.ktest-ci = { package = "/nix/store/ktest-ci"; inherit settings; } // cfg;
  };
  off = module { enable = false; worker = { enable = false; keys = [ ]; }; };
  on = module { enable = true; worker = { enable = true; keys = [ "ssh-ed25519 AAAA farm" ]; }; };
  nixpkgs = { inherit lib; legacyPackages.x86_64-linux = pkgs; legacyPackages.aarch64-linux = pkgs; };
  flake = (import ./flake.nix).outputs { self = flake; inherit nixpkgs; };
  merged = builtins.foldl' (all: one: all // one) { };
  service = (merged on.config).systemd.services;
in
builtins.deepSeq [ off on flake.packages (flake.nixosModules.default { inherit pkgs; }) ]
  (builtins.attrNames service == [ "ci-daemon" "ci-dashboard" ]
    && builtins.all (part: part == { }) off.config
    && builtins.match "[0-9.]+" flake.packages.x86_64-linux.default.version != null)
