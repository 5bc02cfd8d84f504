# The listing of one branch, newest commit first: branch.<user>.<branch>.capnp.
@0xb8e4f9a1c3d27e56;

struct BranchEntry {
  commitId @0 :Text;
  message @1 :Text;
  passed @2 :UInt32;
  failed @3 :UInt32;
  notrun @4 :UInt32;
  failedToRun @5 :UInt32;
  inprogress @6 :UInt32;
  unknown @7 :UInt32;
  duration @8 :UInt64;      # s, of all tests together

  durationMs @9 :UInt64;    # added by ktest-ci; 0: use duration
  flaky @10 :UInt32;        # of the failed ones
  author @11 :Text;         # name and address; empty if unknown
  date @12 :Int64;          # of the committer, Unix seconds; 0 if unknown
}

struct BranchLog {
  entries @0 :List(BranchEntry);
}
