//go:build linux

package blocking

// Loop serves clients one after the other until Stop. While it serves one, all
// others wait in the accept queue, however fast they are: head-of-line
// blocking.
func (s *Server) Loop() error {
	defer s.CloseListener()
	for {
		fd, err := s.Accept()
		if err != nil || fd < 0 {
			return err
		}
		s.ServeClient(fd)
	}
}
