@0x9527f7d16acca92e;
enum Status { inprogress @0; passed @1; failed @2; notrun @3; failedToRun @4; unknown @5; }
struct TestResult { name @0 :Text; duration @1 :UInt64; status @2 :Status; starttime @3 :Int64; }
struct TestResults { entries @0 :List(TestResult); message @1 :Text; commitId @2 :Text; }
