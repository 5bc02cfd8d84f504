# How long each test took in the past, sorted by test: test_durations.capnp.
@0x94317158fa77dd92;

struct Duration {
  test @0 :Text;            # the result key
  duration @1 :UInt64;      # mean, s
  nr @2 :UInt64;
  passed @3 :UInt64;
  failed @4 :UInt64;

  meanMs @5 :UInt64;        # added by ktest-ci; 0: use duration
}

struct Durations {
  entries @0 :List(Duration);

  epoch @1 :UInt64;         # the journal, and
  sequence @2 :UInt64;      # its last record, that these durations include
}
