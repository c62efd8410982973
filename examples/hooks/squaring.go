// The squaring hook in Go. Build it: go build -o squaring_go squaring.go; run it with: target = "exec:./squaring_go"
// A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. Output goes to the log.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"os"
	"strings"
)

type request struct {
	ID   string `json:"id"`
	Task struct {
		Message string `json:"message"`
	} `json:"task"`
}

type verdict struct {
	Version  int    `json:"version"`
	ID       string `json:"id"`
	Verdict  string `json:"verdict"`
	Response string `json:"response,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// respond returns the verdict on a task, whose fields docs/hook.schema.json lists.
func respond(asked request) verdict {
	message, err := hex.DecodeString(strings.TrimPrefix(asked.Task.Message, "0x"))
	if err != nil {
		return verdict{1, asked.ID, "failed", "", err.Error()}
	}
	if len(message) != 32 {
		return verdict{1, asked.ID, "skip", "", fmt.Sprintf("the message is %d bytes long, not 32", len(message))}
	}
	number := new(big.Int).SetBytes(message)
	square := new(big.Int).Mul(number, number)
	square.Mod(square, new(big.Int).Lsh(big.NewInt(1), 256))
	return verdict{1, asked.ID, "answer", fmt.Sprintf("0x%064x", square), ""}
}

func main() {
	requests := bufio.NewReader(os.NewFile(3, "requests"))
	replies := json.NewEncoder(os.NewFile(4, "replies"))
	for {
		line, err := requests.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		var asked request
		if err == nil {
			err = json.Unmarshal(line, &asked)
		}
		if err == nil {
			err = replies.Encode(respond(asked))
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}
