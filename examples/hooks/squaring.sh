#!/bin/sh
# The squaring hook in plain shell and awk. Run it with: target = "exec:./squaring.sh"
# A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. Output goes to the log.

verdict() {
    awk '
    function text_of(name,    begin) {
        if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
        begin = RSTART + length(name) + 4
        return substr($0, begin, RSTART + RLENGTH - 1 - begin)
    }
    function number_of(digits,    i, number) {
        for (i = 1; i <= length(digits); i++) number = 16 * number + index("0123456789abcdef", substr(digits, i, 1)) - 1
        return number
    }
    # 256 bits are 16 limbs of 4 digits, the lowest first. Sums stay below 2**53, where awk counts exactly.
    function square(digits,    i, k, limb, sum, carry, result) {
        for (i = 0; i < 16; i++) limb[i] = number_of(substr(digits, 61 - 4 * i, 4))
        carry = 0
        for (k = 0; k < 16; k++) {
            sum = carry
            for (i = 0; i <= k; i++) sum += limb[i] * limb[k - i]
            result = sprintf("%04x", sum % 65536) result
            carry = int(sum / 65536)
        }
        return result
    }
    {
        id = text_of("id")
        digits = substr(text_of("message"), 3)
        if (length(digits) == 64)
            printf "{\"version\":1,\"id\":\"%s\",\"verdict\":\"answer\",\"response\":\"0x%s\"}\n", id, square(digits)
        else
            printf "{\"version\":1,\"id\":\"%s\",\"verdict\":\"skip\",\"reason\":\"the message is %d bytes long, not 32\"}\n", \
                id, length(digits) / 2
    }'
}

while IFS= read -r request <&3; do
    printf '%s\n' "$request" | verdict >&4
done
