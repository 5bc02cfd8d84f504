# A NixOS module: `services.ktest-ci` is the daemon and the dashboard, `services.ktest-ci.worker` a host of the farm.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.ktest-ci;
  toml = pkgs.formats.toml { };
  tools = with pkgs; [
    bash bc binutils bison bubblewrap ccache coreutils cpio e2fsprogs elfutils fakeroot flex gawk gcc git gnugrep gnumake
    gnused kmod mmdebstrap openssh openssl perl qemu_kvm util-linux xz zstd
  ];
in
{
  options.services.ktest-ci = {
    enable = lib.mkEnableOption "the ktest-ci daemon and dashboard";
    package = lib.mkOption {
      type = lib.types.package;
      description = "The package with the four commands.";
    };
    settings = lib.mkOption {
      type = toml.type;
      default = { };
      description = "The farm's configuration; see docs/running-a-farm.md.";
    };
    worker = {
      enable = lib.mkEnableOption "a worker host that the daemon of a farm uses over ssh";
      keys = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        description = "The public keys of the farm's daemon.";
      };
    };
  };

  config = lib.mkMerge [
    (lib.mkIf (cfg.enable || cfg.worker.enable) {
      users.groups.ktest = { };
      users.users.ktest = {
        isSystemUser = true;
        group = "ktest";
        extraGroups = [ "kvm" ];
        home = "/var/lib/ktest-ci";
        homeMode = "755"; # the dashboard, another user, reads the results there
        createHome = true;
        useDefaultShell = true;
        autoSubUidGidRange = true;
      };
    })
    (lib.mkIf cfg.worker.enable {
      environment.systemPackages = [ cfg.package ] ++ tools;
      users.users.ktest.openssh.authorizedKeys.keys = map (key: "restrict ${key}") cfg.worker.keys;
      security.pam.loginLimits = [
        { domain = "ktest"; type = "-"; item = "nofile"; value = "65536"; }
      ];
      services.openssh.enable = true;
      services.openssh.extraConfig = ''
        Match User ktest
          MaxSessions 500
          AllowAgentForwarding no
          AllowTcpForwarding no
          X11Forwarding no
        Match all
      '';
    })
    (lib.mkIf cfg.enable {
      environment.etc."ktest-ci.toml".source = toml.generate "ktest-ci.toml" cfg.settings;
      systemd.services.ci-daemon = {
        description = "ktest-ci: watches kernel branches and tests every commit";
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        path = tools ++ [ "/run/wrappers" ]; # newuidmap: root images are made in a user namespace
        environment = {
          KTEST_CACHE_DIR = "/var/cache/ktest-ci";
          HOME = "/var/lib/ktest-ci";
        };
        # See packaging/systemd/ci-daemon.service for the reasons, also why ProtectKernelLogs and ProtectKernelTunables are missing.
        serviceConfig = {
          Type = "notify";
          ExecStart = "${cfg.package}/bin/ci-daemon --config /etc/ktest-ci.toml";
          User = "ktest";
          Group = "ktest";
          StateDirectory = "ktest-ci";
          CacheDirectory = "ktest-ci";
          WorkingDirectory = "/var/lib/ktest-ci";
          Restart = "on-failure";
          RestartSec = 5;
          WatchdogSec = 300;
          TimeoutStopSec = 60;
          LimitNOFILE = 65536;
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateTmp = true;
          DevicePolicy = "closed";
          DeviceAllow = [ "/dev/kvm rw" "/dev/fuse rw" ];
        };
      };
      systemd.services.ci-dashboard = {
        description = "ktest-ci: the results as web pages";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          ExecStart = "${cfg.package}/bin/ci-dashboard --config /etc/ktest-ci.toml serve";
          DynamicUser = true;
          Restart = "on-failure";
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateDevices = true;
          NoNewPrivileges = true;
          CapabilityBoundingSet = "";
        };
      };
    })
  ];
}
