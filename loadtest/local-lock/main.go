// The design of the public spikeSystem, written anew for the benchmark, with nothing but Go's standard library: a counter of local
// sales under one token, which is held across one round trip to Redis; no buyers, no record, no broker; a line in a log file that is
// opened for each request. Unlike the original, its connections go back to the pool: there they never do, and it sells only as many
// units as the pool has connections.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
)

const script = `local total = tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
local sold = tonumber(redis.call('HGET', KEYS[1], ARGV[2]))
if total > sold then return redis.call('HINCRBY', KEYS[1], ARGV[2], 1) end
return 0`

// One connection to Redis, used by one request at a time.
type connection struct {
	conn   net.Conn
	reader *bufio.Reader
}

func (c *connection) integer(arguments ...string) (int, error) {
	command := fmt.Sprintf("*%d\r\n", len(arguments))
	for _, argument := range arguments {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(argument), argument)
	}
	if _, err := io.WriteString(c.conn, command); err != nil {
		return 0, err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != ':' {
		return 0, fmt.Errorf("redis: %s", line)
	}
	return strconv.Atoi(line[1 : len(line)-2])
}

func (c *connection) load() (string, error) {
	fmt.Fprintf(c.conn, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%s\r\n", len(script), script)
	if _, err := c.reader.ReadString('\n'); err != nil {
		return "", err
	}
	sha, err := c.reader.ReadString('\n')
	if err != nil || len(sha) < 40 {
		return "", fmt.Errorf("redis: %q %v", sha, err)
	}
	return sha[:40], nil
}

type answer struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where buyers come in")
	redis := flag.String("redis", "127.0.0.1:6379", "HOST:PORT")
	key := flag.String("key", "local-lock", "the hash with total and sold")
	stock := flag.Int("stock", 0, "the local stock, buffer included")
	logFile := flag.String("log", os.DevNull, "a line for each request")
	flag.Parse()

	pool := make(chan *connection, 64)
	var sha string
	for i := 0; i < cap(pool); i++ {
		conn, err := net.Dial("tcp", *redis)
		if err != nil {
			log.Fatal(err)
		}
		opened := &connection{conn, bufio.NewReader(conn)}
		if sha, err = opened.load(); err != nil {
			log.Fatal(err)
		}
		pool <- opened
	}

	sold := 0
	token := make(chan struct{}, 1)
	token <- struct{}{}
	http.HandleFunc("/buy/ticket", func(w http.ResponseWriter, r *http.Request) {
		<-token
		taken := false
		if sold < *stock {
			sold++
			conn := <-pool
			result, err := conn.integer("EVALSHA", sha, "1", *key, "total", "sold")
			taken = err == nil && result != 0
			pool <- conn
		}
		line := fmt.Sprintf("result:%t,localSales:%d\r\n", taken, sold)
		token <- struct{}{}
		if file, err := os.OpenFile(*logFile, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err == nil {
			file.WriteString(line)
			file.Close()
		}
		w.Header().Set("Content-Type", "application/json")
		body := answer{-1, "sold out"}
		if taken {
			body = answer{1, "success"}
		} else {
			w.WriteHeader(http.StatusConflict)
		}
		bytes, _ := json.Marshal(body)
		w.Write(bytes)
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
