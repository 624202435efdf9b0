package churn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
)

// holderVariable, where set, makes a program that calls Hold a holder of so many connections.
const holderVariable = "PERFAGENT_TEST_HOLDER"

// Holder is a process that has both ends of many connections: one process may not open files enough for all.
type Holder struct {
	Port int
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// StartHolder runs this program again, to hold so many connections.
func StartHolder(connections int) (*Holder, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", holderVariable, connections))
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		return nil, err
	}
	h := &Holder{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if _, err := fmt.Fscanln(h.out, &h.Port); err != nil {
		h.Stop()
		return nil, err
	}
	return h, nil
}

// Round makes one exchange on each connection, in turn. The first opens them.
func (h *Holder) Round() error {
	if _, err := fmt.Fprintln(h.in, "round"); err != nil {
		return err
	}
	return h.expect("done")
}

// Close closes the connections.
func (h *Holder) Close() error {
	return errors.Join(h.in.Close(), h.expect("closed"))
}

func (h *Holder) expect(word string) error {
	line, err := h.out.ReadString('\n')
	if line != word+"\n" {
		return fmt.Errorf("a holder of connections says %q: %w", line, err)
	}
	return nil
}

// Stop ends the process, whatever it does.
func (h *Holder) Stop() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// Hold is the process of a holder. It returns false at once where this one is none.
func Hold() (bool, error) {
	connections, err := strconv.Atoi(os.Getenv(holderVariable))
	if err != nil {
		return false, nil
	}
	return true, hold(connections)
}

func hold(connections int) error {
	s, err := Serve()
	if err != nil {
		return err
	}
	fmt.Println(s.Port)
	conns := make([]net.Conn, connections)
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		err := inTurns(connections, func(i int) error {
			if conns[i] == nil {
				var err error
				if conns[i], err = s.dial(i); err != nil {
					return err
				}
			}
			if _, err := conns[i].Write([]byte(request)); err != nil {
				return err
			}
			_, err := io.ReadFull(conns[i], make([]byte, len(response)))
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	for _, conn := range conns {
		conn.Close()
	}
	s.Close()
	fmt.Println("closed")
	return nil
}
