# The demo's report as text. Input: an array of commits, oldest first:
#   {"commit", "subject", "tests": [{"name", "status", "reason"}], "dashboard": the tests as JSON of the dashboard,
#    "expected": {"verdict", "test", "reason"}, "wanted": [NAME...]}
# Variables: $bold $dim $red $green $yellow $plain (terminal codes or ""), $width (columns).
# The last line is "OK" or "WRONG"; the caller removes it.

def count($status): map(select(.status == $status)) | length;
def pad($n): . + (" " * ([0, $n - length] | max));
def left($n): (" " * ([0, $n - length] | max)) + .;
def cut($n): if length > $n then .[0:$n - 1] + "…" else . end;
def short: .commit[0:12];

def cell($n; $color; $columns): (if $n == 0 then "·" else ($n | tostring) end) | left($columns) | if $n == 0 then $dim + . + $plain else $color + . + $plain end;

def table:
  ($width - 67 | if . < 30 then 30 else . end) as $subject
  | $bold + ("commit" | pad(14)) + ("subject" | pad($subject)) + ("passed" | left(12)) + ("failed" | left(12))
    + ("not run" | left(12)) + ("failed to run" | left(15)) + $plain,
    (reverse[] | (short | pad(14)) + (.subject | cut($subject - 1) | pad($subject))
      + (.tests | cell(count("Passed"); $green; 12) + cell(count("Failed"); $red; 12)
        + cell(count("Not run"); $yellow; 12) + cell(count("Failed to run"); $red; 15)));

# The history of a test: the commits at which it broke and at which it was fixed. A commit that does not build has no verdict.
def conclusive: select(.status == "Passed" or .status == "Failed");
# If a test fails at the first tested commit, the commit that broke it is unknown.
def story($name):
  .[0].commit[0:12] as $first
  | reduce (.[] | {commit: short, subject, test: (.tests[] | select(.name == $name) | conclusive)}) as $at ([];
    if $at.test.status == "Failed" and (length == 0 or last.fixed != null) then
      . + [{name: $name, broken: $at, fixed: null, always: ($at.commit == $first)}]
    elif $at.test.status == "Passed" and length > 0 and last.fixed == null then
      .[-1].fixed = $at
    else . end);

# The same for the build. It is broken if no test could start.
def unbuilt: (.tests | length > 0 and all(.status == "Failed to run"));
def build_story:
  reduce (.[] | {commit: short, subject, bad: unbuilt, test: (.tests[0] // {})}) as $at ([];
    if $at.bad and (length == 0 or last.fixed != null) then . + [{name: "kernel build", broken: $at, fixed: null}]
    elif ($at.bad | not) and length > 0 and last.fixed == null then .[-1].fixed = $at
    else . end);

def paragraph:
  $bold + .name + $plain,
  (if .always then "    fails since the first tested commit"
   else "    broken by  " + $red + .broken.commit + $plain + "  " + .broken.subject end),
  (.broken.test.reason // "" | select(. != "") | "               " + $dim + cut(240) + $plain),
  (if .fixed then "    fixed by   " + $green + .fixed.commit + $plain + "  " + .fixed.subject
   else "    " + $red + "still broken" + $plain end);

def stories: ([.[].tests[].name] | unique) as $names | [$names[] as $name | story($name)[]] + build_story;

# The differences from the expected results, one line each.
def good: .status == "Passed" or .status == "Not run";
def facts: map({name, status}) | sort_by(.name);
def differences:
  . as $c | .expected as $e
  | (select((.dashboard | facts) != (.tests | facts)) | "the dashboard and ci-status differ"),
    (.wanted - [.tests[].name] | select(length > 0) | "no verdict for " + join(", ")),
    (.tests[] | select(.status as $s | ["Passed", "Failed", "Not run", "Failed to run"] | index($s) | not)
      | "\(.name) is still \(.status)"),
    if $e.verdict == "no-build" then
      (.tests[] | select(.status != "Failed to run") | "\(.name) is \(.status), though this commit does not compile"),
      ((.tests[0].reason // "") as $r | select($r | test($e.reason) | not) | "the reason of the failed build is \"\($r)\"; it should match \($e.reason)")
    else
      (.tests[] | select(.name != ($e.test // "")) | select(good | not) | "\(.name) is \(.status), it should pass: \(.reason // "no reason given")"),
      (if $e.verdict == "fails" then
         (.tests[] | select(.name == $e.test)
          | if .status != "Failed" then "\(.name) is \(.status), it should fail"
            elif ((.reason // "") | test($e.reason) | not) then "\(.name) failed for another reason: \"\(.reason // "")\"; it should match \($e.reason)"
            else empty end)
       else empty end)
    end
  | $c.commit[0:12] + " " + ($c.subject | cut(50)) + ": " + .;

table,
"",
(stories | if length == 0 then "No commit broke anything." else .[] | paragraph end),
"",
([.[] | differences] | if length == 0 then
    $green + "All \($n) commits have the expected verdicts." + $plain, "OK"
  else
    $red + "Verdicts that differ from what is expected:" + $plain, (.[] | "  " + .), "WRONG"
  end)
