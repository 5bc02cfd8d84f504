# The results of one commit: <sha>.capnp.
# The fields 0-2 of TestResults and 0-3 of TestResult are those of the ktest system; ktest-ci adds the others.
@0x9527f7d16acca92e;

enum Status {
  inprogress @0;
  passed @1;
  failed @2;
  notrun @3;
  failedToRun @4;
  unknown @5;
}

struct TestResult {
  name @0 :Text;            # the result key
  duration @1 :UInt64;      # s
  status @2 :Status;
  starttime @3 :Int64;      # Unix s; 0: unknown

  durationMs @4 :UInt64;    # 0: use duration
  reason @5 :Text;
  crash @6 :Text;           # the crash title
  run @7 :UInt32;           # 1 + index into TestResults.runs; 0: unknown
  attempt @8 :UInt32;       # the number of the decisive attempt; 0: 1
  logBytes @9 :UInt64;      # of the plain log
  fullLogBytes @10 :UInt64; # of the plain log of the VM
  others @11 :List(Attempt);
  load @12 :UInt32 = 4294967295; # of the host at the end, percent of its processors; the default: unknown
  alone @13 :UInt8;         # whether no other batch of the farm ran on the host: 1 no, 2 yes; 0: unknown
}

# An attempt that is not decisive.
struct Attempt {
  number @0 :UInt32;
  status @1 :Status;
  starttime @2 :Int64;
  durationMs @3 :UInt64;
  reason @4 :Text;
  crash @5 :Text;
  run @6 :UInt32;
  logBytes @7 :UInt64;
  fullLogBytes @8 :UInt64;
  load @9 :UInt32 = 4294967295;
  alone @10 :UInt8;
}

# What attempts have in common, stored once per run.
struct Run {
  host @0 :Text;
  slot @1 :UInt32 = 4294967295; # the default: unknown
  kernel @2 :Text;
  imageHash @3 :Text;
  suite @4 :Text;           # a test suite and the commit of its source: NAME COMMIT
  experiment @5 :Text;      # of what the run depends on: 64 bits of a SHA-256, hexadecimal
  inheritedFrom @6 :Text;   # the commit at which it ran, if this one inherits it
}

struct TestResults {
  entries @0 :List(TestResult); # sorted by name if written by ktest-ci
  message @1 :Text;
  commitId @2 :Text;

  epoch @3 :UInt64;         # the journal, and
  sequence @4 :UInt64;      # its last record, that these results include
  passed @5 :UInt32;
  failed @6 :UInt32;
  notrun @7 :UInt32;
  failedToRun @8 :UInt32;
  inprogress @9 :UInt32;
  unknown @10 :UInt32;
  totalMs @11 :UInt64;      # sum of the durations
  keysHash @12 :UInt64;     # of the names, in order: equal hash, same names; 0: these summary fields are not filled
  statuses @13 :Data;       # one byte per entry, in order; 6: failed and flaky
  durationsMs @14 :List(UInt32);
  runs @15 :List(Run);
  flaky @16 :UInt32;        # of the failed ones
}
