# The turns of all contestants, as `run` writes them, into a table for each load and one of all ratios.

# Text
def pad($width): [$width - length, 0] | max | if . == 0 then "" else " " * . end;
def left($width): . + pad($width);
def right($width): pad($width) + .;
def fixed($digits):
    pow(10; $digits) as $scale | . * $scale | round | if $digits == 0 then "\(.)" else
    "\(. / $scale | floor)." + (. % $scale | tostring | ("0" * ($digits - length) // "") + .) end;
def spread($digits): "\(.[length / 2 | floor] | fixed($digits)) (\(first | fixed($digits))–\(last | fixed($digits)))";

# Figures of one load
def rates($who): map(select(.who == $who)) | sort_by(.round) | map(.iops);
def median: sort | .[length / 2 | floor];
def each_round(f): transpose | map(f) | sort;

# The ceiling with that number of threads whose median is the highest here.
def ceiling: . as $turns | map(.who | select(startswith("ceiling"))) | unique | max_by(. as $who | $turns | rates($who) | median);

# What ours is measured by: the rounds' ratios, sorted, and what they should be.
def ratios:
    rates("ours") as $ours | rates("qsd") as $qsd | ceiling as $ceiling | [rates("bare"), rates($ceiling)] as $limits |
    (.[0].depth == 1) as $single |
    if $ours == [] then empty
    elif all($limits[]; . != []) then
        {name: "ours / least of bare and \($ceiling)", target: (if $single then 0.5 else 0.7 end),
         rounds: ([$ours] + $limits | each_round(.[0] / (.[1:] | min)))}
    else empty end,
    if $ours != [] and $qsd != [] then
        {name: "ours / qsd", target: (if $single then 1 else 3 end), rounds: ([$ours, $qsd] | each_round(.[0] / .[1]))}
    else empty end;
def verdict: if (.rounds | median) >= .target then "met" else "MISSED" end;

def heading: .[0] | "\(.kind), \(.depth) deep, \(if .load == "busy" then "a busy loop on every core" else "cores as they are" end)";
def row($who):
    (rates($who) | map(. / 1000) | sort | spread(1)) as $rate | (map(select(.who == $who).cpu) | median) as $cpu |
    "  \($who | left(12)) \($rate | right(24)) \(if $who == "bare" then "" else $cpu | fixed(1) end | right(10))";
def table:
    heading, "  \("" | left(12)) \("k IOPS" | right(24)) \("server µs" | right(10))",
    (map(select(.round == 0).who)[] as $who | row($who)),
    (ratios | "  \(.name): \(.rounds | spread(2)), to be \(.target): \(verdict)"), "";

def summary: "| \(heading) | " + ([ratios | "\(.rounds | spread(2)) | \(.target)"] | join(" | ")) + " |";

group_by([.load == "busy", .kind, .depth]) |
(.[] | table),
if any(.[]; [ratios] | length == 2) then
    "| load | ours / least of bare and ceiling | target | ours / qsd | target |", "|---|---|---|---|---|", (.[] | summary)
else empty end
