//! Virtual machines: the QEMU command line, accelerator probe, console supervision, the guest's side.
