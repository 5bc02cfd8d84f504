{
  description = "ktest-ci: continuous testing of Linux kernel branches";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = nixpkgs.lib.genAttrs systems;
    in
    {
      packages = each (system:
        let pkgs = nixpkgs.legacyPackages.${system}; in
        {
          default = pkgs.rustPlatform.buildRustPackage {
            pname = "ktest-ci";
            version = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.version;
            src = ./..;
            cargoLock.lockFile = ../Cargo.lock;
            # The tests need virtual machines, sshd and Slurm.
            doCheck = false;
            postInstall = ''
              mkdir -p $out/share/ktest-ci
              cp -r tests lib $out/share/ktest-ci/
            '';
          };
        });
      nixosModules.default = { pkgs, ... }: {
        imports = [ ./module.nix ];
        services.ktest-ci.package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      };
    };
}
