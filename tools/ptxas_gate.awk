# Reads what nvcc says with -Xptxas -v. Fails on warnings of the compiler, and names each kernel that has a
# stack frame or spills registers: both put into slow memory what was meant for registers.
/Compiling entry function/ || /Function properties for/ {
    for (i = 1; i < NF; i++) {
        if ($i == "function" || $i == "for") {
            name = $(i + 1)
            gsub(/'/, "", name)
            break
        }
    }
}
/bytes stack frame/ && !/^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ {
    sub(/^ */, "")
    print "ptxas: " name ": " $0
    bad = 1
}
/ error/ || /warning/ {
    print
}
END {
    exit bad
}
